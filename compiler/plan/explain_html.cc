#include "compiler/plan/explain_html.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <vector>

#include "kernels/check.h"
#include "runtime/base/escape.h"

namespace ll {
namespace {

// Basic ops that a launch of an op computes in one pass.
struct FusionGroup {
  std::string_view op, parts;
};
constexpr FusionGroup kFusionGroups[] = {
    {"norm_quantize", "rms_norm + quantize"},
    {"merged_linear", "linear | linear | ..."},
    {"gated_linear", "linear + activation, linear, mul"},
    {"linear_add", "linear + add"},
    {"rope_kv_write", "rope (q) + rope (k) + kv_write"},
};

// Names come from model files.
std::string html(std::string_view text) {
  std::string out;
  for (const char c : escaped(text, 120)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string number(double value, std::string_view unit) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  size_t prefix = 0;
  while (value >= 1000 && prefix + 1 < std::size(kPrefixes)) {
    value /= 1000;
    ++prefix;
  }
  return fmt::format("{:.3g} {}{}", value, kPrefixes[prefix], unit);
}

std::string duration(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} us", seconds * 1e6);
  return seconds < 1 ? fmt::format("{:.3g} ms", seconds * 1e3) : fmt::format("{:.3g} s", seconds);
}

// One colour a kernel, by its place among the kernels of the page.
class Colours {
 public:
  explicit Colours(const std::vector<const Program*>& programs) {
    for (const Program* p : programs) {
      for (const Launch& l : p->launches) index_.emplace(l.kernel->name, 0);
    }
    int i = 0;
    for (auto& [name, index] : index_) index = i++;
  }
  std::string of(std::string_view kernel) const {
    const auto count = static_cast<int>(index_.size());
    return fmt::format("hsl({} 60% 50%)", index_.at(kernel) * 360 / std::max(count, 1));
  }
  std::string legend() const {
    std::string out = "<p class=legend>";
    for (const auto& [name, index] : index_) {
      out += fmt::format("<span><i style=\"background:{}\"></i>{}</span>", of(name), html(name));
    }
    return out + "</p>\n";
  }

 private:
  std::map<std::string_view, int> index_;
};

// A run of arena bytes from the launch that writes it to the last that reads it.
struct Life {
  uint64_t begin, end;
  size_t first, last;  // launches
};

uint64_t operand_bytes(const Operand& o) {
  uint64_t rows = 1;
  for (int i = 0; i + 1 < o.type.rank; ++i) rows *= static_cast<uint64_t>(std::max<int64_t>(0, o.type.dim(i).value));
  if (rows == 0) return 0;
  return (rows - 1) * static_cast<uint64_t>(o.row_bytes) + static_cast<uint64_t>(dense_row_bytes(o.type));
}

// Arena values of a program, and for each launch the launches whose results it reads.
struct Flow {
  std::vector<Life> lives;
  std::vector<std::vector<size_t>> reads;

  explicit Flow(const Program& p) : reads(p.launches.size()) {
    std::vector<size_t> current;  // lives whose bytes no later launch has written over
    for (size_t i = 0; i < p.launches.size(); ++i) {
      for (const Operand& o : p.launches[i].inputs) {
        if (o.space != Space::kArena) continue;
        for (const size_t c : current) {
          Life& life = lives[c];
          if (o.offset >= life.end || o.offset + operand_bytes(o) <= life.begin) continue;
          life.last = i;
          if (std::find(reads[i].begin(), reads[i].end(), life.first) == reads[i].end()) reads[i].push_back(life.first);
        }
      }
      for (const Operand& o : p.launches[i].outputs) {
        if (o.space != Space::kArena) continue;
        const uint64_t begin = o.offset, end = o.offset + operand_bytes(o);
        std::erase_if(current, [&](size_t c) { return begin < lives[c].end && lives[c].begin < end; });
        current.push_back(lives.size());
        lives.push_back({begin, end, i, i});
      }
    }
  }
};

std::string title_of(size_t index, const Launch& l, const MachineRates& rates) {
  return fmt::format("{}: {} = {} {} | {} moved, {} | {}", index, html(l.op), html(l.kernel->name),
                     html(check::describe(l.outputs[0].type)), number(static_cast<double>(l.cost.bytes), "B"),
                     number(static_cast<double>(l.cost.operations), "op"), duration(predicted_seconds(l.cost, rates)));
}

std::string graph_svg(const Program& p, const Flow& flow, const Colours& colours, const MachineRates& rates) {
  constexpr int kRow = 26, kBox = 210, kWidth = 980;
  const size_t count = p.launches.size();
  std::string out =
      fmt::format("<svg viewBox=\"0 0 {} {}\" width={}>\n", kWidth, static_cast<int>(count) * kRow + 8, kWidth);
  for (size_t i = 0; i < count; ++i) {
    const Launch& l = p.launches[i];
    const int y = static_cast<int>(i) * kRow + 4;
    for (const size_t from : flow.reads[i]) {
      const int y0 = static_cast<int>(from) * kRow + 15, y1 = y + 11;
      const int reach = kBox - std::min(kBox - 20, 10 + 6 * static_cast<int>(i - from));
      out +=
          fmt::format("<path class=edge d=\"M{} {}C{} {} {} {} {} {}\"/>\n", kBox, y0, reach, y0, reach, y1, kBox, y1);
    }
    const auto* group = std::find_if(std::begin(kFusionGroups), std::end(kFusionGroups),
                                     [&](const FusionGroup& g) { return g.op == l.kernel->op; });
    const bool fused = group != std::end(kFusionGroups);
    out += fmt::format(
        "<g><title>{}</title><rect x={} y={} width=220 height=22 rx=4 fill=\"{}\"{}/><text x={} y={}>{}</text>"
        "<text class=dim x={} y={}>{} {}</text><text class=dim x=760 y={}>{}</text></g>\n",
        title_of(i, l, rates), kBox, y, colours.of(l.kernel->name), fused ? " class=\"fused\"" : "", kBox + 8, y + 15,
        html(l.kernel->name), kBox + 230, y + 15, html(l.op), html(check::describe(l.outputs[0].type)), y + 15,
        fused ? html(group->parts) : "");
  }
  return out + "</svg>\n";
}

std::string arena_svg(const Program& p, const Flow& flow, const Colours& colours, const MachineRates& rates) {
  constexpr double kWidth = 980, kHeight = 320;
  const double step = kWidth / static_cast<double>(std::max<size_t>(1, p.launches.size()));
  const double scale = kHeight / static_cast<double>(std::max<uint64_t>(1, p.arena_bytes));
  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" width={} class=frame>\n", kWidth, kHeight, kWidth);
  for (const Life& life : flow.lives) {
    const Launch& l = p.launches[life.first];
    out += fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"><title>{} | bytes {} to {}, "
        "launches {} to {}</title></rect>\n",
        static_cast<double>(life.first) * step, static_cast<double>(life.begin) * scale,
        static_cast<double>(life.last - life.first + 1) * step,
        std::max(0.5, static_cast<double>(life.end - life.begin) * scale), colours.of(l.kernel->name),
        title_of(life.first, l, rates), life.begin, life.end, life.first, life.last);
  }
  return out + "</svg>\n";
}

// Both axes logarithmic: operations a byte from 2^-6 to 2^12, operations a second over six decades below the roof.
std::string roofline_svg(const Program& p, const Colours& colours, const MachineRates& rates) {
  constexpr double kWidth = 980, kHeight = 320, kLeft = -6, kRight = 12, kDecades = 6;
  const double top = std::log10(rates.operations_per_second) + 0.3;
  const auto x_of = [&](double intensity) {
    return (std::clamp(std::log2(intensity), kLeft, kRight) - kLeft) / (kRight - kLeft) * kWidth;
  };
  const auto y_of = [&](double rate) { return std::clamp(top - std::log10(rate), 0.0, kDecades) / kDecades * kHeight; };
  const double ridge = rates.operations_per_second / rates.bytes_per_second;
  std::string out = fmt::format("<svg viewBox=\"0 0 {} {}\" width={} class=frame>\n", kWidth, kHeight, kWidth);
  out += fmt::format("<path class=roof d=\"M0 {:.1f}L{:.1f} {:.1f}L{} {:.1f}\"/>\n",
                     y_of(rates.bytes_per_second * std::exp2(kLeft)), x_of(ridge), y_of(rates.operations_per_second),
                     kWidth, y_of(rates.operations_per_second));
  for (size_t i = 0; i < p.launches.size(); ++i) {
    const Launch& l = p.launches[i];
    if (l.cost.bytes == 0 || l.cost.operations == 0) continue;  // copies have no place between the roofs
    const double intensity = static_cast<double>(l.cost.operations) / static_cast<double>(l.cost.bytes);
    const double rate = static_cast<double>(l.cost.operations) / predicted_seconds(l.cost, rates);
    out += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=4 fill=\"{}\"><title>{} | {:.3g} operations a byte</title>"
        "</circle>\n",
        x_of(intensity), y_of(rate), colours.of(l.kernel->name), title_of(i, l, rates), intensity);
  }
  out += fmt::format("<text class=dim x=8 y=16>{}/s, {}/s; left to right 2^{} to 2^{} operations a byte</text>\n",
                     number(rates.bytes_per_second, "B"), number(rates.operations_per_second, "op"), kLeft, kRight);
  return out + "</svg>\n";
}

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--line:#8888;--dim:#666}
@media(prefers-color-scheme:dark){:root{--dim:#aaa}}
body{font:14px system-ui,sans-serif;margin:24px auto;max-width:1000px;padding:0 16px}
svg{max-width:100%;height:auto;display:block;margin:8px 0;font-size:12px}
text{fill:CanvasText}.dim{fill:var(--dim)}
.edge{fill:none;stroke:var(--line)}.fused{stroke:CanvasText;stroke-width:1.5}
.frame{border:1px solid var(--line)}.roof{fill:none;stroke:CanvasText;stroke-dasharray:6 4}
rect,circle{fill-opacity:.45}.legend span{margin-right:14px;white-space:nowrap}
.legend i{display:inline-block;width:12px;height:12px;margin-right:5px;opacity:.6}
td,th{padding:2px 12px 2px 0;text-align:left}
)";

}  // namespace

Result<std::string> explain_html(const Plan& plan, std::optional<size_t> program, const MachineRates& rates) {
  if (program && *program >= plan.programs.size()) {
    return usage("there is no program {}: the plan has {}, numbered from 0", *program, plan.programs.size());
  }
  std::vector<const Program*> programs;
  for (size_t i = 0; i < plan.programs.size(); ++i) {
    if (!program || *program == i) programs.push_back(&plan.programs[i]);
  }
  const Colours colours(programs);
  const std::string name = html(fmt::format("{} {}", plan.model.architecture, plan.model.name));
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">"
      "<title>{}</title><style>{}</style></head><body>\n<h1>{}</h1>\n",
      name, kStyle, name);
  out += fmt::format(
      "<p>for {}, context {}, up to {} sequences. KV {} a token. Times are those of a machine that reads {}/s and "
      "computes {}/s.</p>\n",
      html(plan.target), plan.model.context_length, plan.max_batch,
      number(static_cast<double>(plan.kv_bytes_per_token), "B"), number(rates.bytes_per_second, "B"),
      number(rates.operations_per_second, "op"));
  out += "<table><tr><th>program<th>tokens<th>launches<th>arena<th>predicted step<th>at full context</tr>\n";
  for (const Program* p : programs) {
    out += fmt::format("<tr><td><a href=\"#{0}\">{0}</a><td>{1}<td>{2}<td>{3}<td>{4}<td>{5}</tr>\n", html(p->name),
                       p->max_tokens, p->launches.size(), number(static_cast<double>(p->arena_bytes), "B"),
                       duration(predicted_seconds(plan, *p, rates, 0)),
                       duration(predicted_seconds(plan, *p, rates, plan.model.context_length)));
  }
  out += "</table>\n" + colours.legend();
  for (const Program* p : programs) {
    const Flow flow(*p);
    out += fmt::format("<h2 id=\"{0}\">{0}</h2>\n<h3>Roofline of each launch</h3>\n", html(p->name));
    out += roofline_svg(*p, colours, rates);
    out += fmt::format("<h3>Arena over time: {} down, launches across</h3>\n",
                       number(static_cast<double>(p->arena_bytes), "B"));
    out += arena_svg(*p, flow, colours, rates);
    out += "<h3>Launches in order; outlined: fusion groups, with what they stand for</h3>\n";
    out += graph_svg(*p, flow, colours, rates);
  }
  return out + "</body></html>\n";
}

}  // namespace ll
