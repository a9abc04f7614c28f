#include "tools/llrt/interrupt.h"

#include <signal.h>

namespace ll {
namespace {

volatile sig_atomic_t flag = 0;

}  // namespace

void catch_interrupts() {
  flag = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { flag = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
}

bool interrupted() { return flag != 0; }

}  // namespace ll
