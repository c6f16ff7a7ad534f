#!/bin/sh
# Sums the weights of the words of each text. The messages are described in docs/methodology/protocol.md.
while IFS= read -r line; do
    case $line in
    *'"op"'*)
        artifact=$(printf '%s\n' "$line" | sed 's/.*"artifact": *"\([^"]*\)".*/\1/')
        echo '{"ready": true}'
        ;;
    *)
        printf '%s\n' "$line" | awk -v weights="$artifact/weights.json" '
            BEGIN {
                while ((getline each < weights) > 0)
                    if (split(each, part, /[":,]+ */) > 2) worth[part[2]] = part[3]
            }
            {
                match($0, /"id": *[0-9]+/)
                id = substr($0, RSTART + 5, RLENGTH - 5) + 0
                count = split(substr($0, index($0, "[")), c, "")
                for (i = 1; i <= count; i++) {
                    if (quoted && c[i] == "\\") { word(); i += c[i + 1] == "u" ? 5 : 1 }
                    else if (c[i] == "\"") { quoted = !quoted; word() }
                    else if (quoted) { if (c[i] ~ /[A-Za-z]/) text = text tolower(c[i]); else word() }
                    else if (c[i] == "[") { if (++depth == 2) sum = 0 }
                    else if (c[i] == "]" && depth-- == 2) answers = answers "," (sum >= 0)
                }
                printf "{\"id\": %d, \"answers\": [%s]}\n", id, substr(answers, 2)
            }
            function word() { sum += worth[text]; text = "" }'
        ;;
    esac
done
