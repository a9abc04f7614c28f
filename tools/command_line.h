// Options and subcommands of both programs, as CLI11 has them (https://cliutils.github.io/CLI11/book/): the same names
// and meanings. Its headers cost seconds in every file that includes them, so that one file does.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "runtime/base/result.h"

namespace ll::CLI {

// What a value must be.
struct Range {
  Range(int low, int high) : Range(int64_t{low}, int64_t{high}) {}
  Range(int64_t low, int64_t high) : bounds(Bounds<int64_t>{low, high}) {}
  Range(uint64_t low, uint64_t high) : bounds(Bounds<uint64_t>{low, high}) {}
  Range(double low, double high) : bounds(Bounds<double>{low, high}) {}

  template <class T>
  struct Bounds {
    T low, high;  // both allowed
  };
  std::variant<Bounds<int64_t>, Bounds<uint64_t>, Bounds<double>> bounds;
};

struct IsMember {
  IsMember(std::initializer_list<std::string> list) : names(list) {}
  std::vector<std::string> names;
};

// Each of these returns the option itself.
class Option {
 public:
  virtual ~Option() = default;
  virtual Option* required(bool value = true) = 0;
  virtual Option* check(const Range& range) = 0;
  virtual Option* check(const IsMember& list) = 0;
  virtual Option* type_name(const std::string& name) = 0;    // in the help: FILE, N
  virtual Option* envname(const std::string& variable) = 0;  // of the environment, where the option is not given
  virtual Option* capture_default_str() = 0;                 // the help shows the value that the variable has now
  virtual Option* default_str(const std::string& text) = 0;  // what the help shows as the default
  virtual Option* delimiter(char between) = 0;               // of several values in one argument
  virtual Option* expected(int values) = 0;                  // each time it is given
  virtual Option* take_all() = 0;                            // may be given several times
  virtual Option* excludes(Option* other) = 0;
  virtual Option* excludes(const std::string& other) = 0;
  virtual Option* needs(Option* other) = 0;
};

class App {
 public:
  virtual ~App() = default;
  // `names`: "-o,--output", or one without dashes for a positional argument. T: bool, a string, a number, and vectors
  // and optionals of them, as far as command_line.cc instantiates them.
  template <class T>
  Option* add_option(const std::string& names, T& value, const std::string& help);
  template <class T>
  Option* add_option_function(const std::string& names, std::function<void(const T&)> use, const std::string& help);
  virtual Option* add_flag(const std::string& names, bool& value, const std::string& help) = 0;
  virtual Option* add_flag_callback(const std::string& names, std::function<void()> use, const std::string& help) = 0;
  virtual Option* get_option(const std::string& name) = 0;  // one that was added
  virtual App* add_subcommand(const std::string& name, const std::string& help) = 0;
  virtual void footer(const std::string& text) = 0;
  virtual bool parsed() const = 0;  // of a subcommand: it is the one that was named
};

// A program whose first argument names a subcommand. Options of the program may also stand after it.
class Program : public App {
 public:
  static std::unique_ptr<Program> make(const std::string& name, const std::string& description,
                                       const std::string& version);
  // False: --help or --version was asked for and has been printed. kUsage: a sentence on the argument that is wrong.
  virtual Result<bool> parse(int argc, const char* const* argv) = 0;
};

}  // namespace ll::CLI
