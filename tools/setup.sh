# shellcheck shell=bash disable=SC2034
# Sourced by demo.sh and test.sh: makes sure the Debian packages that a build or a test run needs are there.
# Installs with apt when run as root or with sudo; otherwise says what is missing.

LLCUDA_BUILD_PACKAGES="g++ cmake ninja-build pkg-config ccache flatbuffers-compiler libflatbuffers-dev nlohmann-json3-dev libcli11-dev
  libfmt-dev libpcre2-dev libutf8proc-dev libxxhash-dev libboost1.81-dev"
LLCUDA_TEST_PACKAGES="libgtest-dev llvm-14-tools clang-format-14 python3 python3-numpy python3-venv binutils git"
# Tests that need these are skipped where they cannot be had.
LLCUDA_OPTIONAL_TEST_PACKAGES="chromium"

# require_packages NAME...: returns when all are installed.
require_packages() {
  local package
  local -a missing=() have=()
  for package in "$@"; do
    if dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed'; then
      have+=("$package")
    else
      missing+=("$package")
    fi
  done
  [ ${#missing[@]} -eq 0 ] && return 0

  local -a sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
      echo "error: missing Debian packages: ${missing[*]}" >&2
      echo "       run as root: apt-get install ${missing[*]}" >&2
      exit 69
    fi
    sudo=(sudo)
  fi
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: missing: ${missing[*]} (Debian package names), and there is no apt-get here to install them with" >&2
    exit 69
  fi
  echo "installing ${#missing[@]} packages: ${missing[*]}" >&2
  # A list from an earlier day may name versions that are gone, so a failed install is tried again with a fresh one.
  local -a install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends)
  if ! "${install[@]}" "${missing[@]}" >/dev/null 2>&1; then
    "${sudo[@]}" apt-get update -qq >&2 || true
    if ! "${install[@]}" "${missing[@]}" >&2; then
      for package in "${missing[@]}"; do
        apt-cache show "$package" >/dev/null 2>&1 || echo "error: this system's package sources have no '$package'" >&2
      done
      echo "error: could not install: ${missing[*]}" >&2
      exit 69
    fi
  fi
}

# build PRESET TARGET...: configures when needed and builds. Quiet unless it fails.
build() {
  local preset=$1
  shift
  cmake --preset "$preset" -S . >"build/$preset.configure.log" 2>&1 || { cat "build/$preset.configure.log" >&2; exit 70; }
  cmake --build "build/$preset" --parallel "$(nproc)" --target "$@" || exit 70
}
