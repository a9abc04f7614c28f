// Lines from a terminal: editing, history, several lines. Of its own because what Debian has is under the GPL
// (readline) or brings ncurses and three more libraries along (libedit), and neither edits several lines nor takes
// pasted ones as such.
#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace ll {

// What was entered before, oldest first; kept in a file that only its user can read.
class History {
 public:
  static constexpr size_t kMost = 1000;
  // $XDG_STATE_HOME/llrt/history, else ~/.local/state/llrt/history; empty when there is no home.
  static std::string default_path();
  // Reads what the file holds; one that is not there or cannot be read is an empty history. An empty path: kept in
  // memory.
  explicit History(std::string path);
  // Appends an entry unless it repeats the last one, to the file as well as that can be done.
  void add(const std::string& entry);
  const std::vector<std::string>& entries() const { return entries_; }

 private:
  std::string path_;
  std::vector<std::string> entries_;
};

// stdin has to be a terminal. Keys: arrows, Home, End, Delete, Ctrl-A B E F H D K U W L P N, Alt-B F D; Alt-Enter or a
// backslash at the end begins a new line; pasted text is taken as it is.
class LineEditor {
 public:
  explicit LineEditor(History& history) : history_(history) {}

  enum class End { kLine, kInterrupt, kEof };  // Enter; Ctrl-C; Ctrl-D in an empty line, or the terminal went away
  struct Line {
    End end;
    std::string text;  // with kInterrupt: what had been entered
  };
  // Shows `prompt` (visible characters alone; shown in bold when `colours`) and returns what is entered.
  Line read(const std::string& prompt, bool colours);

 private:
  struct State;
  History& history_;
};

// While it lives: keys that are pressed are not shown and wait for the next read; Ctrl-C is a signal.
class QuietTerminal {
 public:
  QuietTerminal();
  QuietTerminal(const QuietTerminal&) = delete;
  QuietTerminal& operator=(const QuietTerminal&) = delete;
  ~QuietTerminal();

 private:
  std::optional<termios> before_;
};

}  // namespace ll
