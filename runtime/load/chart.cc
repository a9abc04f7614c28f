// Distributions as pictures: one SVG that needs nothing else.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "runtime/load/load.h"

namespace ll::load {
namespace {

constexpr double kWidth = 460, kHeight = 250, kLeft = 62, kRight = 14, kTop = 40, kBottom = 44;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;
// From a light load to a heavy one; readable on white and on black.
constexpr const char* kColours[] = {"#3b8fd9", "#25a18e", "#7aa02c", "#d69a1b",
                                    "#dd6b34", "#cc4468", "#8e5bc2", "#6b7785"};

std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<uint8_t>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string text(double x, double y, const char* anchor, std::string_view words, const char* kind = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n", x, y, anchor, kind,
                     escape_markup(words));
}

std::string label_of(const LevelResult& level) {
  return level.rate > 0 ? fmt::format("{}/s", level.rate) : fmt::format("{} streams", level.streams);
}

std::string milliseconds(double ms) {
  if (ms >= 1000) return fmt::format("{:g} s", ms / 1000);
  return fmt::format("{:g} ms", ms);
}

std::string frame(double x, double y, std::string_view title) {
  return fmt::format("<g transform=\"translate({},{})\">\n", x, y) + text(kLeft, 20, "start", title, "title");
}

// Steps of 1, 2 or 5 times a power of ten, at most about five of them below `most`.
double step_of(double most) {
  const double power = std::pow(10, std::floor(std::log10(std::max(most, 1e-9) / 5)));
  for (const double m : {1.0, 2.0, 5.0}) {
    if (most / (m * power) <= 5) return m * power;
  }
  return 10 * power;
}

// Share of values below a time, over the time's logarithm; one line a level.
std::string distribution(double x, double y, const char* title, const LoadResult& result,
                         std::vector<double> LevelResult::*curve) {
  double least = 1e300, most = 0;
  for (const LevelResult& level : result.levels) {
    if ((level.*curve).empty()) continue;
    // Texts that arrive in one packet are microseconds apart: the least of all would make the axis long and empty.
    least = std::min(least, (level.*curve)[1]);
    most = std::max(most, (level.*curve).back());
  }
  std::string out = frame(x, y, title);
  if (most <= 0) return out + text(kLeft, 80, "start", "no values") + "</g>\n";
  const double low = std::floor(std::log10(std::max(least, 1e-3))),
               high = std::max(low + 1, std::ceil(std::log10(most)));
  const auto at = [&](double v) {
    return kLeft + kPlotWidth * std::max(0.0, (std::log10(std::max(v, 1e-3)) - low) / (high - low));
  };
  for (int share = 0; share <= 100; share += 25) {
    const double line = kTop + kPlotHeight * (1 - share / 100.0);
    out += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", kLeft,
                       kLeft + kPlotWidth, line, line);
    out += text(kLeft - 8, line + 4, "end", fmt::format("{} %", share), "quiet");
  }
  for (double power = low; power <= high; ++power) {
    const double line = at(std::pow(10, power));
    out += fmt::format("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" class=\"grid\"/>\n", line, kTop,
                       kTop + kPlotHeight);
    out += text(line, kTop + kPlotHeight + 18, "middle", milliseconds(std::pow(10, power)), "quiet");
  }
  for (size_t i = 0; i < result.levels.size(); ++i) {
    const std::vector<double>& values = result.levels[i].*curve;
    if (values.empty()) continue;
    std::string points;
    for (size_t k = 0; k < values.size(); ++k) {
      const double share = static_cast<double>(k) / static_cast<double>(values.size() - 1);
      points += fmt::format("{:.1f},{:.1f} ", at(values[k]), kTop + kPlotHeight * (1 - share));
    }
    out += fmt::format(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"><title>{}</title></polyline>\n", points,
        kColours[i % std::size(kColours)], label_of(result.levels[i]));
  }
  return out + "</g>\n";
}

// Output tokens a second of each level, those of good requests filled.
std::string rates(double x, double y, const LoadResult& result) {
  double most = 0;
  for (const LevelResult& l : result.levels) {
    if (l.seconds > 0) most = std::max(most, static_cast<double>(l.output_tokens) / l.seconds);
  }
  std::string out = frame(x, y, "output tokens a second; filled: within the limits");
  if (most <= 0) return out + text(kLeft, 80, "start", "no values") + "</g>\n";
  const double step = step_of(most), top = step * std::ceil(most / step);
  for (double v = 0; v <= top * 1.001; v += step) {
    const double line = kTop + kPlotHeight * (1 - v / top);
    out += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", kLeft,
                       kLeft + kPlotWidth, line, line);
    out += text(kLeft - 8, line + 4, "end", fmt::format("{:g}", v), "quiet");
  }
  const double slot = kPlotWidth / static_cast<double>(result.levels.size()), width = std::min(60.0, slot * 0.7);
  for (size_t i = 0; i < result.levels.size(); ++i) {
    const LevelResult& l = result.levels[i];
    if (l.seconds <= 0) continue;
    const double all = static_cast<double>(l.output_tokens) / l.seconds,
                 good = static_cast<double>(l.good_tokens) / l.seconds;
    const double left = kLeft + slot * (static_cast<double>(i) + 0.5) - width / 2;
    const char* colour = kColours[i % std::size(kColours)];
    const auto bar = [&](double value, const char* fill) {
      const double height = kPlotHeight * value / top;
      return fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"2\" fill=\"{}\" stroke=\"{}\"/>\n",
          left, kTop + kPlotHeight - height, width, height, fill, colour);
    };
    out += bar(all, "none") + bar(good, colour);
    out += text(left + width / 2, kTop + kPlotHeight * (1 - all / top) - 5, "middle", fmt::format("{:.0f}", all));
    out += text(left + width / 2, kTop + kPlotHeight + 18, "middle", label_of(l), "quiet");
  }
  return out + "</g>\n";
}

std::string legend(double y, const LoadResult& result) {
  std::string out;
  double x = kLeft;
  for (size_t i = 0; i < result.levels.size(); ++i) {
    const std::string label = label_of(result.levels[i]);
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"12\" rx=\"3\" fill=\"{}\"/>\n", x, y - 10,
                       kColours[i % std::size(kColours)]);
    out += text(x + 18, y, "start", label);
    x += 34 + 7.5 * static_cast<double>(label.size());
  }
  return out;
}

}  // namespace

std::string svg_report(const LoadResult& result) {
  const double width = 2 * kWidth, height = 2 * kHeight + 40;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Distributions of "
      "latency and rates\">\n<style>\n"
      "svg {{ color-scheme: light dark; }}\n"
      "text {{ font: 12px system-ui, sans-serif; fill: #26272b; }}\n"
      ".title {{ font-weight: 600; font-size: 13px; }}\n.quiet {{ fill: #63666e; }}\n"
      ".grid {{ stroke: #d9dbe0; }}\n.ground {{ fill: #ffffff; }}\n"
      "@media (prefers-color-scheme: dark) {{ text {{ fill: #e8e9ec; }} .quiet {{ fill: #a6a9b2; }} .grid {{ stroke: "
      "#3a3d44; }} .ground {{ fill: #17181b; }} }}\n"
      "</style>\n<rect class=\"ground\" width=\"{}\" height=\"{}\"/>\n",
      width, height, width, height);
  out += distribution(0, 0, "time to first token: share below", result, &LevelResult::first_token_curve);
  out += distribution(kWidth, 0, "time between texts: share below", result, &LevelResult::between_curve);
  out += distribution(0, kHeight, "end to end: share below", result, &LevelResult::end_to_end_curve);
  out += rates(kWidth, kHeight, result);
  return out + legend(2 * kHeight + 22, result) + "</svg>\n";
}

std::string html_report(const LoadOptions& options, const LoadResult& result) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width\">\n<title>Load</title>\n<style>\n"
      ":root { color-scheme: light dark; }\nbody { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: "
      "2rem "
      "auto; padding: 0 1rem; }\nsvg { width: 100%; height: auto; }\n.wide { overflow-x: auto; }\ntable { "
      "border-collapse: collapse; font-variant-numeric: tabular-nums; }\nth, td { padding: .25rem .75rem; text-align: "
      "right; border-bottom: 1px solid #8885; white-space: nowrap; }\n</style>\n";
  out += fmt::format(
      "<h1>Load on {}</h1>\n<p>{}; prompts of {} words, {} of them shared; answers of {} tokens; seed {}.</p>\n",
      escape_markup(result.model), options.rates.empty() ? "Closed loop" : "Poisson arrivals",
      escape_markup(options.prompt_words), fmt::format("{:.0f} %", 100 * options.shared_prefix),
      escape_markup(options.output_tokens), options.seed);
  out += svg_report(result);
  // The text table's rows, cell by cell.
  out += "<div class=\"wide\"><table>\n";
  const std::string table = text_report(options, result);
  int row = 0;
  for (size_t at = 0; at < table.size(); ++row) {
    const size_t end = table.find('\n', at);
    std::string_view line = std::string_view(table).substr(at, end - at);
    at = end + 1;
    if (row == 1) continue;
    out += "<tr>";
    const char* tag = row == 0 ? "th" : "td";
    line.remove_prefix(1);
    for (size_t bar = line.find('|'); bar != std::string_view::npos; bar = line.find('|')) {
      std::string_view cell = line.substr(0, bar);
      line.remove_prefix(bar + 1);
      while (cell.starts_with(' ')) cell.remove_prefix(1);
      while (cell.ends_with(' ')) cell.remove_suffix(1);
      out += fmt::format("<{0}>{1}</{0}>", tag, escape_markup(cell));
    }
    out += "</tr>\n";
  }
  out += "</table></div>\n";
  for (const LevelResult& level : result.levels) {
    if (level.errors.empty()) continue;
    out += fmt::format("<p>{}:", label_of(level));
    for (const auto& [kind, count] : level.errors) out += fmt::format(" {} of '{}'", count, escape_markup(kind));
    out += fmt::format("; the first: {}</p>\n", escape_markup(level.first_error));
  }
  return out + "</html>\n";
}

}  // namespace ll::load
