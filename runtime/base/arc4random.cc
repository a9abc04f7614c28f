// libstdc++.a (std::random_device) asks for arc4random, which glibc has only since 2.36; our programs run on 2.35.
// Linked in by name (cmake/targets.cmake), since the archive that wants it comes later on the command line.
#include <stdlib.h>
#include <sys/random.h>

#include <cstdint>

extern "C" uint32_t arc4random() noexcept {
  uint32_t value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value;
}
