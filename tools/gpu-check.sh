#!/bin/bash
# Takes llcuda to a machine with an NVIDIA GPU and checks and measures it there.
#
#   tools/gpu-check.sh pack FOLDER [BUILD [SHARED]]   makes FOLDER from a build (default build/release) and the reference
#                                                     models of SHARED/models (default ../shared)
#   FOLDER/gpu-check.sh [--seconds N] [--out DIR] ... on that machine: gpu_check.py --help says what it takes
#
# FOLDER needs glibc 2.35, an NVIDIA driver, python3 with numpy, and an NVRTC that llcc finds (CUDA toolkit 12 or 13).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" != pack ]; then
  exec python3 "$here/gpu_check.py" "$@"
fi

[ $# -ge 2 ] || { sed -n 2,9p "$0" >&2; exit 64; }
root=$(dirname "$here") folder=$2 build=${3:-$(dirname "$here")/build/release} shared=${4:-$(dirname "$here")/../shared}
rm -rf "$folder"
cmake --build "$build" --target gpu_check >/dev/null
cmake --install "$build" --prefix "$folder" --strip >/dev/null
rm -rf "$folder"/include "$folder"/share "$folder"/lib/cmake "$folder"/lib/pkgconfig
cp "$build/gpu_check" "$folder/bin/" && strip "$folder/bin/gpu_check"
cp "$root"/tools/gpu-check.sh "$root"/tools/gpu_check.py "$root"/tests/e2e/library.py "$root"/tests/e2e/support.py "$folder/"
mkdir -p "$folder/models"
cp "$root"/examples/*.gguf "$folder/models/"
for model in llama-gqa llama-mha-tied llama3-rope mistral-swa qwen2-bias kjv-7m; do
  [ -d "$shared/models/$model" ] || continue
  mkdir -p "$folder/models/$model"
  find "$shared/models/$model" -maxdepth 1 -type f -exec cp -t "$folder/models/$model" {} +
done
for file in "$shared"/models/kjv-7m/gguf/*.gguf "$shared/tools/synth_gguf.py"; do
  case $file in
    *.gguf) [ ! -f "$file" ] || cp "$file" "$folder/models/" ;;
    *) [ ! -f "$file" ] || cp "$file" "$folder/" ;;
  esac
done
chmod -R u+w "$folder"
du -sh "$folder" | cut -f1
