// Ctrl-C as a flag that commands look at between steps.
#pragma once

namespace ll {

inline constexpr int kInterruptedExit = 130;  // 128 + SIGINT

// Lowers the flag. From here on the first SIGINT raises the flag and interrupts a blocking read; a second one ends the
// process at once.
void catch_interrupts();
bool interrupted();

}  // namespace ll
