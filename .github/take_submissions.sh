#!/usr/bin/env bash
# take_submissions.sh CHECKOUT BASE
# Copies each folder submissions/<name> that CHECKOUT changed since BASE into submissions/ here, and prints `names=...`.
# Run it in a checkout of the base branch. A name with special characters, or a folder that contains a link, is refused.
set -euo pipefail
checkout=$1 base=$2
names=()
while IFS= read -r -d '' path; do
    name=${path#submissions/}
    [[ $name == */* ]] || continue
    name=${name%%/*}
    [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || { echo "not a plain name: $name" >&2; exit 1; }
    [[ " ${names[*]-} " == *" $name "* ]] || names+=("$name")
done < <(git -C "$checkout" diff --name-only -z "$base...HEAD" -- submissions/)
kept=()
for name in ${names[@]+"${names[@]}"}; do
    rm -rf "submissions/${name:?}"
    [ -d "$checkout/submissions/$name" ] || continue   # the pull request removes it
    if [ -L "$checkout/submissions/$name" ] || [ -n "$(find "$checkout/submissions/$name" ! -type f ! -type d -print -quit)" ]; then
        echo "submissions/$name holds a link" >&2
        exit 1
    fi
    cp -R "$checkout/submissions/$name" submissions/
    kept+=("$name")
done
echo "names=${kept[*]-}"
