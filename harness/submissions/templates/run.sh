#!/bin/sh
# Counts good and bad words: the least that answers. Put your own program in its place.
# One JSON message a line comes in, one goes out; docs/protocol.md has all of them.
while IFS= read -r line; do
    case $line in
    *'"op"'*) echo '{"ready": true}' ;;
    *) printf '%s\n' "$line" | awk '
        BEGIN {
            n = split("best brilliant charming clever enjoyable funny good great love moving perfect", w, " ")
            while (n) worth[w[n--]] = 1
            n = split("awful bad bland boring dull fails mess predictable slow stupid tedious worst", w, " ")
            while (n) worth[w[n--]] = -1
        }
        {
            match($0, /"id": *[0-9]+/)
            id = substr($0, RSTART + 5, RLENGTH - 5) + 0
            # an example is what lies in the second pair of brackets, its texts are in quotes
            for (i = index($0, "["); i <= length($0); i++) {
                c = substr($0, i, 1)
                if (quoted && c == "\\") i++
                else if (c == "\"") { quoted = !quoted; word() }
                else if (quoted) { if (c ~ /[A-Za-z]/) text = text tolower(c); else word() }
                else if (c == "[") { if (++depth == 2) sum = 0 }
                else if (c == "]" && depth-- == 2) answers = answers (answers == "" ? "" : ", ") (sum >= 0)
            }
            printf "{\"id\": %d, \"answers\": [%s]}\n", id, answers
        }
        function word() { sum += worth[text]; text = "" }' ;;
    esac
done
