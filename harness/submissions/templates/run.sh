#!/bin/sh
# A minimal example: counts good and bad words. Replace it with your program.
# It reads one JSON message per line and answers each with one. docs/methodology/protocol.md of wattbench's source
# describes them.
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
            # each list at the second level of brackets is an example; its texts are in quotes
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
