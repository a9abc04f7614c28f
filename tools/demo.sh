#!/usr/bin/env bash
# From a fresh Debian 12 to a chat: installs what is missing, builds, compiles a model and talks with it. With a PROMPT, or
# where there is no terminal, it streams one answer.
#   tools/demo.sh                 the bundled model
#   tools/demo.sh MODEL [PROMPT]  a GGUF file or Hugging Face folder of your own
set -euo pipefail
if [ "${1:-}" = "-h" ] || [ "${1:-}" = "--help" ]; then
  sed -n '2,5s/^# \{0,1\}//p' "$0"
  exit 0
fi
case "${1:-}" in
  "" | /*) model=${1:-} ;;
  *) model=$PWD/$1 ;;
esac
prompt=${2:-In the beginning}
cd "$(dirname "$0")/.."
. tools/setup.sh
if [ -z "$model" ]; then
  model=examples/kjv-7m-Q8_0.gguf
elif [ ! -e "$model" ]; then
  echo "error: '$1' does not exist: expected a .gguf file or a Hugging Face folder" >&2
  exit 66
fi

mkdir -p build
# shellcheck disable=SC2086
require_packages $LLCUDA_BUILD_PACKAGES
echo "building (a few minutes the first time) ..." >&2
build release llcc llrt

plan=build/demo.llcp
echo "compiling $(basename "$model") ..." >&2
build/release/llcc compile "$model" -o "$plan"
echo >&2
status=0
if [ -t 0 ] && [ -t 1 ] && [ $# -lt 2 ]; then
  build/release/llrt run "$plan" --chat --temp 0.7 --seed 1 || status=$?
else
  build/release/llrt run "$plan" --chat -p "$prompt" -n 128 --temp 0.7 --seed 1 || status=$?
fi
# 69: the model has no chat template; such models continue texts.
if [ $status -eq 69 ]; then
  status=0
  build/release/llrt run "$plan" -p "$prompt" -n 128 --temp 0.7 --seed 1 || status=$?
fi
exit $status
