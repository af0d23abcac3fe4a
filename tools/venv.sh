#!/bin/sh
# Makes the virtual environment DIR unless it is there, and installs this package with EXTRAS into it, pinned by
# constraints.txt. Called by the Makefile:
#
#   tools/venv.sh DIR [EXTRAS]           for example: tools/venv.sh .venv fit,demo,dev
#
#   PYTHON=python3.12      the interpreter to use (default: the first of the PATH that is new enough)
#   TORCH=2.11.0+cu128     another torch than the pinned one, as pip can find it
#   TORCH=keep             the torch that PYTHON already imports; DIR then sees that Python's packages
#
# TORCH is remembered in DIR and counts when DIR is made.
set -eu

dir=$1
extras=${2:-}
case $extras in *fit*) need_mb=3000 ;; *) need_mb=800 ;; esac

fail() {
    for line in "$@"; do echo "shoestring: $line" >&2; done
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "no Python >= 3.11 (tried: ${PYTHON:-python3, python3.11 to python3.14, python})." \
        "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3"
}

free_mb() {
    df -Pk . | awk 'NR == 2 { print int($4 / 1024) }'
}

make_venv() {
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "$python has no venv module. Debian, Ubuntu: apt install python3-venv"
    [ "$(free_mb)" -ge "$need_mb" ] ||
        fail "only $(free_mb) MB free here; the installs need about $need_mb MB (and 10 GB when torch brings CUDA)."
    if [ "${TORCH:-}" = keep ]; then
        "$python" -m venv --clear --system-site-packages "$dir"
        "$dir/bin/python" -c 'import torch' 2>/dev/null || {
            rm -rf "$dir"
            fail "TORCH=keep, but an environment made by $python has no torch (one virtual environment does not see" \
                "another's packages). Name the Python that torch was installed for: make PYTHON=... TORCH=keep"
        }
    else
        "$python" -m venv --clear "$dir"
    fi
    echo "${TORCH:-}" >"$dir/torch-choice"
}

# The pins with the chosen torch in the place of ours. The file stays in DIR, where one can see what was asked for.
write_pins() {
    case $1 in
        "") cat constraints.txt ;;
        keep) grep -v '^torch==' constraints.txt ;;
        *) sed "s/^torch==.*/torch==$1/" constraints.txt ;;
    esac >"$dir/constraints.txt"
}

if ! "$dir/bin/python" -m pip --version >/dev/null 2>&1; then
    make_venv
fi
choice=$(cat "$dir/torch-choice" 2>/dev/null || true)
[ -z "${TORCH:-}" ] || [ "$TORCH" = "$choice" ] ||
    fail "$dir was made with torch '${choice:-of constraints.txt}', not '$TORCH'. Run 'make clean' first."
write_pins "$choice"

echo "Installing shoestring${extras:+[$extras]} into $dir: some seconds when little is new, minutes when all is ..."
PIP_DISABLE_PIP_VERSION_CHECK=1 "$dir/bin/python" -m pip install -qq \
    --constraint "$dir/constraints.txt" --editable ".${extras:+[$extras]}" ||
    fail "pip could not install; its reason is above ($(free_mb) MB are free here)." \
        "What is installed so far stays in $dir: the same command goes on from there."
