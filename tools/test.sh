#!/usr/bin/env bash
# The whole test suite, from a fresh Debian 12: installs what is missing, lints, then builds and tests
# with ASan+UBSan, with TSan (threads only), and in Release with the end-to-end tests. Ends in ctest's summary.
#   tools/test.sh [--release-only]
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/setup.sh
mkdir -p build
# shellcheck disable=SC2086
require_packages $LLCUDA_BUILD_PACKAGES $LLCUDA_TEST_PACKAGES
# shellcheck disable=SC2086
(require_packages $LLCUDA_OPTIONAL_TEST_PACKAGES) || echo "going on without: $LLCUDA_OPTIONAL_TEST_PACKAGES" >&2

stage() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
jobs=$(nproc)

stage "lint"
python3 tools/lint.py

if [ "${1:-}" != "--release-only" ]; then
  stage "address and undefined behaviour sanitizers: build"
  build asan all
  stage "address and undefined behaviour sanitizers: test"
  ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 \
    ctest --test-dir build/asan --parallel "$jobs" --output-on-failure -LE "e2e|slow"

  stage "thread sanitizer: build"
  build tsan runtime_test api_test serve_test
  stage "thread sanitizer: test"
  TSAN_OPTIONS=halt_on_error=1 ctest --test-dir build/tsan --parallel "$jobs" --output-on-failure -R '^(runtime|api|serve)\.'
fi

stage "release: build"
build release all gpu_check
stage "release: test"
ctest --test-dir build/release --parallel "$jobs" --output-on-failure
