#!/bin/sh
# Builds the engine's library beside src/shoestring/engine/native.py, as far as its sources changed since the last time,
# and touches STAMP. Called by the Makefile: tools/engine.sh STAMP
#
# As with an install, no compiler means no engine and a word about it; code that does not compile is an error.
set -eu

PATH="$PWD/.venv/bin:$PATH"
build=build/engine
log=$build/configure.log
mkdir -p "$build"

if ! cmake -G Ninja -DCMAKE_MAKE_PROGRAM="$(command -v ninja)" -DSHOESTRING_INPLACE=ON \
    -S src/shoestring/engine/native -B "$build" >"$log" 2>&1; then
    echo "shoestring: no engine: CMake could not configure it ($log). Everything else works." >&2
    echo "shoestring: it needs GCC or Clang (Debian, Ubuntu: apt install g++); then run 'make engine'." >&2
    exit 0
fi
cmake --build "$build"
touch "$1"
