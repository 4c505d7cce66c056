#!/bin/sh
# An environment for each tool that cannot live beside Assay: sh benchmarks/peers/environments.sh [FOLDER]
set -e
here=$(dirname "$0")
folder=${1:-.peers}
for name in ferret interpreto; do
    if [ ! -e "$folder/$name/.installed" ]; then
        "${PYTHON:-python3}" -m venv "$folder/$name"
        "$folder/$name/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/$name.txt"
        touch "$folder/$name/.installed"
    fi
done
