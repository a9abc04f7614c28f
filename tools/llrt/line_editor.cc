#include "tools/llrt/line_editor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <cwchar>

namespace ll {
namespace {

constexpr size_t kMostBytes = 1 << 20;  // of a line and of the history's file

// ---- Characters. Text is UTF-8; a place is a byte offset at which a character begins ----

bool continues(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

size_t next_place(const std::string& text, size_t at) {
  if (at >= text.size()) return text.size();
  for (++at; at < text.size() && continues(text[at]); ++at) {
  }
  return at;
}

size_t previous_place(const std::string& text, size_t at) {
  if (at == 0) return 0;
  for (--at; at > 0 && continues(text[at]); --at) {
  }
  return at;
}

// Columns of the character at `at`; of what the terminal could take for a command: as U+FFFD is shown, one.
int width_of(const std::string& text, size_t at) {
  std::mbstate_t state{};
  wchar_t wide = 0;
  const size_t size = std::mbrtowc(&wide, text.data() + at, next_place(text, at) - at, &state);
  if (size == static_cast<size_t>(-1) || size == static_cast<size_t>(-2)) return 1;
  return std::max(0, wcwidth(wide));
}

bool is_control(uint8_t c) { return c < 0x20 || c == 0x7F; }

void write_all(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) return;
    if (n > 0) done += static_cast<size_t>(n);
  }
}

int columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

class RawTerminal {
 public:
  RawTerminal() { enter(); }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;
  ~RawTerminal() { leave(); }

  void enter() {
    if (tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios raw = before_;
    raw.c_iflag &= ~static_cast<tcflag_t>(BRKINT | ICRNL | INPCK | ISTRIP | IXON);
    raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | IEXTEN | ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    write_all("\x1b[?2004h");  // pasted text comes between ESC [200~ and ESC [201~
  }
  void leave() {
    write_all("\x1b[?2004l");
    tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }

 private:
  termios before_{};
};

std::optional<char> read_byte() {
  char c = 0;
  while (true) {
    const ssize_t n = ::read(STDIN_FILENO, &c, 1);
    if (n == 1) return c;
    if (n < 0 && errno == EINTR) continue;
    return std::nullopt;
  }
}

// The rest of an escape sequence comes at once; a lone ESC does not keep the reader waiting.
std::optional<char> read_soon() {
  pollfd wait{STDIN_FILENO, POLLIN, 0};
  return poll(&wait, 1, 50) == 1 ? read_byte() : std::nullopt;
}

// ---- The history's file: an entry a line, newline and backslash behind a backslash ----

std::string packed(const std::string& entry) {
  std::string line;
  for (const char c : entry) {
    if (c == '\n') {
      line += "\\n";
    } else {
      if (c == '\\') line += '\\';
      line += c;
    }
  }
  return line + "\n";
}

std::vector<std::string> unpacked(const std::string& file) {
  std::vector<std::string> entries;
  std::string entry;
  for (size_t i = 0; i < file.size(); ++i) {
    if (file[i] == '\n') {
      if (!entry.empty()) entries.push_back(std::move(entry));
      entry.clear();
    } else if (file[i] == '\\' && i + 1 < file.size() && file[i + 1] != '\n') {
      ++i;
      entry += file[i] == 'n' ? '\n' : file[i];
    } else if (file[i] != 0) {
      entry += file[i];
    }
  }
  return entries;
}

bool write_file(const std::string& path, int flags, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  if (fd < 0) return false;
  const bool whole = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  close(fd);
  return whole;
}

}  // namespace

std::string History::default_path() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::string folder;
  if (state != nullptr && *state == '/') {
    folder = state;
  } else if (home != nullptr && *home == '/') {
    folder = std::string(home) + "/.local/state";
  } else {
    return {};
  }
  return folder + "/llrt/history";
}

History::History(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  // Each folder on the way, as the specification of those places asks for.
  for (size_t slash = path_.find('/', 1); slash != std::string::npos; slash = path_.find('/', slash + 1)) {
    mkdir(path_.substr(0, slash).c_str(), 0700);
  }
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return;
  struct stat facts {};
  std::string file;
  if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode)) {
    // The newest entries are at the end.
    const auto size = static_cast<size_t>(facts.st_size), skip = size > kMostBytes ? size - kMostBytes : 0;
    file.resize(size - skip);
    const ssize_t n = pread(fd, file.data(), file.size(), static_cast<off_t>(skip));
    file.resize(n > 0 ? static_cast<size_t>(n) : 0);
  }
  close(fd);
  entries_ = unpacked(file);
  if (entries_.size() <= 2 * kMost) return;
  entries_.erase(entries_.begin(), entries_.end() - kMost);
  std::string rest;
  for (const std::string& entry : entries_) rest += packed(entry);
  write_file(path_, O_TRUNC, rest);
}

void History::add(const std::string& entry) {
  if (entry.empty() || (!entries_.empty() && entries_.back() == entry)) return;
  entries_.push_back(entry);
  // One write: lines of several programs at once stay whole. A disk that is full costs the history and nothing else.
  if (!path_.empty()) write_file(path_, O_APPEND, packed(entry));
}

// The line, the cursor, and what is on the screen.
struct LineEditor::State {
  std::string prompt;
  bool colours = false;
  std::string text;
  size_t at = 0;
  int cursor_row = 0;              // of the cursor below the prompt's first row, as last drawn
  std::vector<std::string> lines;  // history and, last, what is being entered
  size_t line = 0;

  void insert(const std::string& what) {
    if (text.size() + what.size() > kMostBytes) return;
    text.insert(at, what);
    at += what.size();
  }
  void erase(size_t begin, size_t end) {
    text.erase(begin, end - begin);
    at = begin;
  }
  void recall(size_t which) {
    lines[line] = text;
    line = which;
    text = lines[line];
    at = text.size();
  }
  size_t line_begin() const {
    const size_t newline = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
    return newline == std::string::npos ? 0 : newline + 1;
  }
  size_t line_end() const { return std::min(text.find('\n', at), text.size()); }
  size_t word_left() const {
    size_t i = at;
    while (i > 0 && (text[i - 1] == ' ' || text[i - 1] == '\n')) --i;
    while (i > 0 && text[i - 1] != ' ' && text[i - 1] != '\n') --i;
    return i;
  }
  size_t word_right() const {
    size_t i = at;
    while (i < text.size() && (text[i] == ' ' || text[i] == '\n')) ++i;
    while (i < text.size() && text[i] != ' ' && text[i] != '\n') ++i;
    return i;
  }
  // Up and Down move between the lines of a text before they move in the history.
  void up() {
    const size_t begin = line_begin();
    if (begin > 0) {
      at = begin - 1;
    } else if (line > 0) {
      recall(line - 1);
    }
  }
  void down() {
    const size_t end = line_end();
    if (end < text.size()) {
      at = end + 1;
    } else if (line + 1 < lines.size()) {
      recall(line + 1);
    }
  }

  void draw() {
    const int wide = columns();
    int row = 0, column = 0, at_row = 0, at_column = 0;
    std::string out = "\r";
    if (cursor_row > 0) out += fmt::format("\x1b[{}A", cursor_row);
    out += "\x1b[J";
    if (colours) out += "\x1b[1m";
    out += prompt;
    if (colours) out += "\x1b[0m";
    const int indent = static_cast<int>(prompt.size());
    column = indent;
    for (size_t i = 0; i <= text.size(); i = i < text.size() ? next_place(text, i) : i + 1) {
      if (i == at) {
        at_row = row;
        at_column = column;
      }
      if (i == text.size()) break;
      if (text[i] == '\n') {
        out += "\r\n" + std::string(static_cast<size_t>(indent), ' ');
        ++row;
        column = indent;
        continue;
      }
      const bool control = is_control(static_cast<uint8_t>(text[i]));
      const int width = text[i] == '\t' ? 2 : width_of(text, i);
      if (column + width > wide) {
        out += "\r\n";
        ++row;
        column = 0;
        if (i == at) {
          at_row = row;
          at_column = 0;
        }
      }
      if (control) {
        out += text[i] == '\t' ? "  " : "\xEF\xBF\xBD";
      } else {
        out.append(text, i, next_place(text, i) - i);
      }
      column += control && text[i] != '\t' ? 1 : width;
    }
    if (at == text.size() && column >= wide) {
      out += "\r\n";
      ++row;
      at_row = row;
      at_column = 0;
    }
    if (row > at_row) out += fmt::format("\x1b[{}A", row - at_row);
    out += "\r";
    if (at_column > 0) out += fmt::format("\x1b[{}C", at_column);
    cursor_row = at_row;
    write_all(out);
  }

  void paste() {
    std::string all;
    while (const auto c = read_byte()) {
      all += *c;
      if (all.ends_with("\x1b[201~")) {
        all.resize(all.size() - 6);
        break;
      }
      if (all.size() > kMostBytes) break;
    }
    // Terminals send line ends as CR.
    std::string clean;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i] == '\r') {
        clean += '\n';
        if (i + 1 < all.size() && all[i + 1] == '\n') ++i;
      } else if (all[i] == '\n' || all[i] == '\t' || !is_control(static_cast<uint8_t>(all[i]))) {
        clean += all[i];
      }
    }
    insert(clean);
  }

  void escape() {
    const auto first = read_soon();
    if (!first) return;
    if (*first == '\r' || *first == '\n') return insert("\n");
    if (*first == 'b') at = word_left();
    if (*first == 'f') at = word_right();
    if (*first == 'd') text.erase(at, word_right() - at);
    if (*first == 0x7F) erase(word_left(), at);
    if (*first != '[' && *first != 'O') return;
    std::string sequence;
    while (const auto c = read_soon()) {
      sequence += *c;
      if (*c >= 0x40 || sequence.size() > 16) break;
    }
    if (sequence == "200~") return paste();
    if (sequence == "A") up();
    if (sequence == "B") down();
    if (sequence == "C") at = next_place(text, at);
    if (sequence == "D") at = previous_place(text, at);
    if (sequence == "1;5C" || sequence == "1;3C") at = word_right();
    if (sequence == "1;5D" || sequence == "1;3D") at = word_left();
    if (sequence == "H" || sequence == "1~" || sequence == "7~") at = line_begin();
    if (sequence == "F" || sequence == "4~" || sequence == "8~") at = line_end();
    if (sequence == "3~") text.erase(at, next_place(text, at) - at);
  }
};

LineEditor::Line LineEditor::read(const std::string& prompt, bool colours) {
  // Widths of characters; programs' other conventions stay those of C.
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
  State s{.prompt = prompt, .colours = colours, .text = {}, .lines = history_.entries()};
  s.lines.emplace_back();
  s.line = s.lines.size() - 1;
  RawTerminal terminal;
  const auto finish = [&](End end) {
    s.at = s.text.size();
    s.draw();
    write_all("\r\n");
    return Line{end, std::move(s.text)};
  };
  while (true) {
    s.draw();
    const auto c = read_byte();
    if (!c) return finish(End::kEof);
    const auto key = static_cast<uint8_t>(*c);
    const auto ctrl = [](char letter) { return static_cast<uint8_t>(letter & 0x1F); };
    if (key == '\r') {
      if (s.at == s.text.size() && s.text.ends_with('\\')) {
        s.erase(s.at - 1, s.at);
        s.insert("\n");
        continue;
      }
      return finish(End::kLine);
    }
    if (key == ctrl('C')) return finish(End::kInterrupt);
    if (key == ctrl('D') && s.text.empty()) return finish(End::kEof);
    if (key == ctrl('Z')) {
      terminal.leave();
      raise(SIGTSTP);
      terminal.enter();
      s.cursor_row = 0;
    } else if (key == 0x1B) {
      s.escape();
    } else if (key == ctrl('J')) {
      s.insert("\n");
    } else if (key == 0x7F || key == ctrl('H')) {
      s.erase(previous_place(s.text, s.at), s.at);
    } else if (key == ctrl('D')) {
      s.text.erase(s.at, next_place(s.text, s.at) - s.at);
    } else if (key == ctrl('A')) {
      s.at = s.line_begin();
    } else if (key == ctrl('E')) {
      s.at = s.line_end();
    } else if (key == ctrl('B')) {
      s.at = previous_place(s.text, s.at);
    } else if (key == ctrl('F')) {
      s.at = next_place(s.text, s.at);
    } else if (key == ctrl('K')) {
      s.text.erase(s.at, s.line_end() - s.at);
    } else if (key == ctrl('U')) {
      s.erase(s.line_begin(), s.at);
    } else if (key == ctrl('W')) {
      s.erase(s.word_left(), s.at);
    } else if (key == ctrl('P')) {
      s.up();
    } else if (key == ctrl('N')) {
      s.down();
    } else if (key == ctrl('L')) {
      write_all("\x1b[H\x1b[2J");
      s.cursor_row = 0;
    } else if (!is_control(key) || key == '\t') {
      // A character's bytes come together.
      std::string character(1, *c);
      const int more = key >= 0xF0 ? 3 : key >= 0xE0 ? 2 : key >= 0xC0 ? 1 : 0;
      for (int i = 0; i < more; ++i) {
        const auto byte = read_soon();
        if (!byte) break;
        character += *byte;
      }
      s.insert(character);
    }
  }
}

QuietTerminal::QuietTerminal() {
  termios now{};
  if (isatty(STDIN_FILENO) == 0 || tcgetattr(STDIN_FILENO, &now) != 0) return;
  before_ = now;
  now.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON);
  now.c_iflag &= ~static_cast<tcflag_t>(ICRNL);  // what is typed ahead arrives as the editor expects it
  tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
}

QuietTerminal::~QuietTerminal() {
  if (before_) tcsetattr(STDIN_FILENO, TCSADRAIN, &*before_);
}

}  // namespace ll
