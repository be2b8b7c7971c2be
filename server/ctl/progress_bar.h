#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace blobcache::ctl {

/// Bytes a second over the last few seconds, so that the number shown follows the present and yet
/// stands still enough to be read. Pure: the caller brings the time. Not thread-safe.
class RateMeter {
 public:
  /// `done` bytes in all have been moved at `now`. Neither may go back.
  void add(absl::Time now, uint64_t done);
  /// Nothing until two samples lie far enough apart to say anything.
  [[nodiscard]] std::optional<double> bytes_per_second() const;

 private:
  struct Sample {
    absl::Time time;
    uint64_t done = 0;
  };
  std::deque<Sample> samples_;  ///< at most kMaxSamples
};

/// What a progress bar shows. Value type.
struct Progress {
  std::string label;  ///< already escaped
  uint64_t done = 0;
  std::optional<uint64_t> total;  ///< bytes, when known
  std::optional<double> bytes_per_second;
  uint64_t elapsed_seconds = 0;
};

/// One line of at most `width` columns, without a newline: label, percent, bar, bytes, rate and
/// time left; the bar, then the label go when the terminal is narrow. Pure.
[[nodiscard]] std::string render_progress(const Progress& progress, size_t width);

/// A progress bar on a terminal's stderr: redrawn in place at most ten times a second, not drawn at
/// all for what is done within a moment, and gone without a trace when it ends. Disabled, it does
/// nothing.
///
/// Thread-safe: another thread may clear() it, when a signal ends the program.
class ProgressBar {
 public:
  ProgressBar(std::string label, std::optional<uint64_t> total, bool enabled);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void set_total(uint64_t total);
  /// `bytes` more are done; redraws when it is time.
  void advance(uint64_t bytes);
  /// `bytes` in all are done.
  void advance_to(uint64_t bytes);
  /// Wipes the line, so that something else can be written there; it comes back in its time.
  void hide();
  /// Wipes the line; from then on nothing is drawn. Idempotent.
  void clear();

  /// As clear(), for when Ctrl-C ends the program: the line goes even if only the terminal's "^C"
  /// stands there.
  void wipe();

  /// True when stderr is a terminal that can redraw a line.
  [[nodiscard]] static bool terminal_can_show();

 private:
  void draw(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  Progress progress_ ABSL_GUARDED_BY(mutex_);
  RateMeter rate_ ABSL_GUARDED_BY(mutex_);
  bool enabled_ ABSL_GUARDED_BY(mutex_);
  bool drawn_ ABSL_GUARDED_BY(mutex_) = false;
  const absl::Time started_;
  absl::Time next_draw_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::ctl
