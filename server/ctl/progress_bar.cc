#include "server/ctl/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "base/size.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

const absl::Duration kRedraw = absl::Milliseconds(100);
const absl::Duration kFirstDraw = absl::Milliseconds(400);
const absl::Duration kRateWindow = absl::Seconds(5);
const absl::Duration kShortestRate = absl::Milliseconds(200);
constexpr size_t kMaxSamples = 64;
constexpr size_t kMinBar = 10;
constexpr size_t kMaxBar = 40;
constexpr size_t kMaxLabel = 32;
constexpr size_t kGap = 2;
constexpr uint64_t kLongestEta = uint64_t{100} * 3600;

double share_done(const Progress& progress) {
  const uint64_t total = progress.total.value_or(0);
  if (total == 0) return 1;
  return std::min(1.0, static_cast<double>(progress.done) / static_cast<double>(total));
}

/// "1.2 GiB of 2.7 GiB  310.0 MiB/s  0:05 left"
std::string figures(const Progress& progress) {
  std::string out = base::format_size(progress.done);
  if (progress.total) out += fmt::format(" of {}", base::format_size(*progress.total));
  const double rate = progress.bytes_per_second.value_or(0);
  if (rate >= 1) out += fmt::format("  {}/s", base::format_size(static_cast<uint64_t>(rate)));
  if (!progress.total) return out + fmt::format("  {}", format_clock(progress.elapsed_seconds));
  if (rate >= 1 && progress.done < *progress.total) {
    const double left = std::ceil(static_cast<double>(*progress.total - progress.done) / rate);
    if (left < static_cast<double>(kLongestEta)) {
      out += fmt::format("  {} left", format_clock(static_cast<uint64_t>(left)));
    }
  }
  return out;
}

std::string bar(double share, size_t width) {
  const auto full = static_cast<size_t>(share * static_cast<double>(width));
  std::string out(full, '=');
  if (full < width) out += '>';
  out.resize(width, ' ');
  return fmt::format("[{}]", out);
}

size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

void write_terminal(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;  // a terminal that is gone has nobody to tell
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

void RateMeter::add(absl::Time now, uint64_t done) {
  samples_.push_back({now, done});
  // The oldest sample stays just outside the window, so that a slow transfer has a rate, too.
  while (samples_.size() > kMaxSamples ||
         (samples_.size() > 2 && now - samples_[1].time > kRateWindow)) {
    samples_.pop_front();
  }
}

std::optional<double> RateMeter::bytes_per_second() const {
  if (samples_.size() < 2) return std::nullopt;
  const absl::Duration span = samples_.back().time - samples_.front().time;
  if (span < kShortestRate) return std::nullopt;
  return static_cast<double>(samples_.back().done - samples_.front().done) /
         absl::ToDoubleSeconds(span);
}

std::string render_progress(const Progress& progress, size_t width) {
  const std::string numbers = figures(progress);
  std::string percent;
  if (progress.total) percent = fmt::format("{:3.0f}%", std::floor(100 * share_done(progress)));
  const size_t fixed =
      display_width(numbers) + (percent.empty() ? 0 : display_width(percent) + kGap);
  if (fixed > width) return shorten(percent.empty() ? numbers : percent, width);

  std::string out;
  size_t left = width - fixed;
  const std::string label = shorten(progress.label, kMaxLabel);
  if (!label.empty() && display_width(label) + kGap <= left) {
    out += label + std::string(kGap, ' ');
    left -= display_width(label) + kGap;
  }
  if (!percent.empty()) out += percent + std::string(kGap, ' ');
  constexpr size_t kFrame = 2 + kGap;
  if (!percent.empty() && left >= kMinBar + kFrame) {
    out += bar(share_done(progress), std::min(left - kFrame, kMaxBar)) + std::string(kGap, ' ');
  }
  return out + numbers;
}

ProgressBar::ProgressBar(std::string label, std::optional<uint64_t> total, bool enabled)
    : enabled_(enabled), started_(absl::Now()), next_draw_(started_ + kFirstDraw) {
  progress_.label = std::move(label);
  progress_.total = total;
  rate_.add(started_, 0);
}

void ProgressBar::set_total(uint64_t total) {
  const absl::MutexLock lock(&mutex_);
  progress_.total = total;
}

void ProgressBar::advance(uint64_t bytes) {
  const absl::MutexLock lock(&mutex_);
  progress_.done += bytes;
  if (!enabled_) return;
  const absl::Time now = absl::Now();
  if (now >= next_draw_) draw(now);
}

void ProgressBar::advance_to(uint64_t bytes) {
  uint64_t more = 0;
  {
    const absl::MutexLock lock(&mutex_);
    more = bytes - std::min(bytes, progress_.done);
  }
  advance(more);
}

void ProgressBar::hide() {
  const absl::MutexLock lock(&mutex_);
  if (drawn_) write_terminal("\r\x1b[K");
  drawn_ = false;
}

void ProgressBar::draw(absl::Time now) {
  rate_.add(now, progress_.done);
  progress_.bytes_per_second = rate_.bytes_per_second();
  progress_.elapsed_seconds =
      static_cast<uint64_t>(std::max<int64_t>(0, absl::ToInt64Seconds(now - started_)));
  next_draw_ = now + kRedraw;
  drawn_ = true;
  // One column stays free: a full line would make some terminals scroll.
  write_terminal(fmt::format("\r{}\x1b[K", render_progress(progress_, terminal_width() - 1)));
}

void ProgressBar::clear() {
  const absl::MutexLock lock(&mutex_);
  if (drawn_) write_terminal("\r\x1b[K");
  drawn_ = false;
  enabled_ = false;
}

void ProgressBar::wipe() {
  {
    const absl::MutexLock lock(&mutex_);
    drawn_ = enabled_;
  }
  clear();
}

bool ProgressBar::terminal_can_show() {
  const char* const terminal = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

}  // namespace blobcache::ctl
