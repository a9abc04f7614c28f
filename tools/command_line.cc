#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <optional>
#include <utility>

namespace ll::CLI {
namespace {

class WrappedOption : public Option {
 public:
  explicit WrappedOption(::CLI::Option* option) : option_(option) {}
  ::CLI::Option* get() const { return option_; }

  Option* required(bool value) override { return option_->required(value), this; }
  Option* check(const Range& range) override {
    std::visit([this](const auto& b) { option_->check(::CLI::Range(b.low, b.high)); }, range.bounds);
    return this;
  }
  Option* check(const IsMember& list) override { return option_->check(::CLI::IsMember(list.names)), this; }
  Option* type_name(const std::string& name) override { return option_->type_name(name), this; }
  Option* envname(const std::string& variable) override { return option_->envname(variable), this; }
  Option* capture_default_str() override { return option_->capture_default_str(), this; }
  Option* default_str(const std::string& text) override { return option_->default_str(text), this; }
  Option* delimiter(char between) override { return option_->delimiter(between), this; }
  Option* expected(int values) override { return option_->expected(values), this; }
  Option* take_all() override { return option_->take_all(), this; }
  Option* excludes(Option* other) override {
    return option_->excludes(static_cast<WrappedOption*>(other)->get()), this;
  }
  Option* excludes(const std::string& other) override { return option_->excludes(other), this; }
  Option* needs(Option* other) override { return option_->needs(static_cast<WrappedOption*>(other)->get()), this; }

 private:
  ::CLI::Option* option_;
};

// Of App or Program; what it wraps belongs to the program.
template <class Interface>
class Wrapped : public Interface {
 public:
  explicit Wrapped(::CLI::App* app) : app_(app) {}
  Option* wrap(::CLI::Option* option) { return options_.emplace_back(std::make_unique<WrappedOption>(option)).get(); }
  ::CLI::App& app() { return *app_; }

  Option* add_flag(const std::string& names, bool& value, const std::string& help) override {
    return wrap(app_->add_flag(names, value, help));
  }
  Option* add_flag_callback(const std::string& names, std::function<void()> use, const std::string& help) override {
    return wrap(app_->add_flag_callback(names, std::move(use), help));
  }
  Option* get_option(const std::string& name) override { return wrap(app_->get_option(name)); }
  App* add_subcommand(const std::string& name, const std::string& help) override {
    return subcommands_.emplace_back(std::make_unique<Wrapped<App>>(app_->add_subcommand(name, help)->fallthrough()))
        .get();
  }
  void footer(const std::string& text) override { app_->footer(text); }
  bool parsed() const override { return app_->parsed(); }

 private:
  ::CLI::App* app_;
  std::vector<std::unique_ptr<WrappedOption>> options_;
  std::vector<std::unique_ptr<App>> subcommands_;
};

class WrappedProgram : public Wrapped<Program> {
 public:
  WrappedProgram(const std::string& name, const std::string& description, const std::string& version)
      : Wrapped<Program>(&program_), program_(description, name) {
    program_.set_version_flag("--version", name + " " + version);
    program_.require_subcommand(1);
  }
  Result<bool> parse(int argc, const char* const* argv) override {
    try {
      program_.parse(argc, argv);
    } catch (const ::CLI::ParseError& e) {
      if (e.get_exit_code() != 0) return error(Code::kUsage, "{}; see {} --help", e.what(), program_.get_name());
      program_.exit(e);
      return false;
    }
    return true;
  }

 private:
  ::CLI::App program_;
};

// Calls `add` with the wrapper that `app` is.
template <class Add>
Option* with(App* app, Add add) {
  if (auto* program = dynamic_cast<Wrapped<Program>*>(app)) return program->wrap(add(program->app()));
  auto& subcommand = dynamic_cast<Wrapped<App>&>(*app);
  return subcommand.wrap(add(subcommand.app()));
}

}  // namespace

std::unique_ptr<Program> Program::make(const std::string& name, const std::string& description,
                                       const std::string& version) {
  return std::make_unique<WrappedProgram>(name, description, version);
}

template <class T>
Option* App::add_option(const std::string& names, T& value, const std::string& help) {
  return with(this, [&](::CLI::App& app) { return app.add_option(names, value, help); });
}
template <class T>
Option* App::add_option_function(const std::string& names, std::function<void(const T&)> use, const std::string& help) {
  return with(this, [&](::CLI::App& app) { return app.add_option_function<T>(names, use, help); });
}

template Option* App::add_option(const std::string&, std::string&, const std::string&);
template Option* App::add_option(const std::string&, int32_t&, const std::string&);
template Option* App::add_option(const std::string&, int64_t&, const std::string&);
template Option* App::add_option(const std::string&, uint16_t&, const std::string&);
template Option* App::add_option(const std::string&, uint32_t&, const std::string&);
template Option* App::add_option(const std::string&, uint64_t&, const std::string&);
template Option* App::add_option(const std::string&, float&, const std::string&);
template Option* App::add_option(const std::string&, double&, const std::string&);
template Option* App::add_option(const std::string&, std::vector<std::string>&, const std::string&);
template Option* App::add_option(const std::string&, std::vector<int32_t>&, const std::string&);
template Option* App::add_option(const std::string&, std::vector<uint32_t>&, const std::string&);
template Option* App::add_option(const std::string&, std::vector<double>&, const std::string&);
template Option* App::add_option(const std::string&, std::optional<int>&, const std::string&);
template Option* App::add_option(const std::string&, std::optional<std::string>&, const std::string&);
template Option* App::add_option(const std::string&, std::optional<uint32_t>&, const std::string&);
template Option* App::add_option(const std::string&, std::optional<uint64_t>&, const std::string&);
template Option* App::add_option_function(const std::string&, std::function<void(const std::string&)>,
                                          const std::string&);

}  // namespace ll::CLI
