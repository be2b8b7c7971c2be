#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/http_head.h"
#include "net/impl/http_job.h"
#include "net/impl/http_judge.h"
#include "net/impl/http_version.h"
#include "net/impl/http_vitals.h"
#include "store/page/source.h"

namespace blobcache::net {

/// One version of a file that is read. The atomics are shared by all who read it.
struct HttpTarget {
  std::string path;  ///< as HttpRequest has it
  HttpVersion version;
  std::shared_ptr<HttpVitals> vitals;
  /// Of a version without a strong validator: the server had another one, so this one is over.
  std::atomic<bool> is_over = false;
  /// The server sends the whole whatever range is asked for.
  std::atomic<bool> is_rangeless = false;
  /// Asked for by its version id, since the path has another version by now.
  std::atomic<bool> by_version_id = false;
};

/// Bytes that somebody waits for. The client's thread's, from when it was handed over.
struct HttpPiece {
  std::shared_ptr<HttpTarget> target;
  uint64_t offset = 0;
  absl::Span<std::byte> into;
  page::Source::FetchDone done;
  absl::Time start;  ///< not to be asked for before; from when it is, when that was first
  absl::Duration
      timeout;  ///< how long it may take from `start` on, or from the last that came before

  bool is_asked_for = false;
  bool is_ahead = false;  ///< nobody waits for it yet

  size_t filled = 0;
  bool is_over = false;

  [[nodiscard]] uint64_t next() const { return offset + filled; }
  [[nodiscard]] uint64_t end() const { return offset + into.size(); }
  /// Calls `done`, the first time; then `into` is not ours any more.
  void finish(const absl::Status& status);
};

/// Adjacent pieces of one version, brought by one range request; and after a failure what is
/// missing of them by another one.
///
/// A server that sends the whole instead of the range is read from the beginning, which is passed
/// over up to kMostSkipped bytes. The reply then stays open, without being read, for who wants what
/// comes next (join()): so a file is read once by who reads it in order.
class HttpRangeJob final : public HttpJob {
 public:
  static constexpr uint64_t kMostBytes = uint64_t{4} << 20;  ///< of one request
  static constexpr uint64_t kMostSkipped = uint64_t{64} << 20;

  explicit HttpRangeJob(std::shared_ptr<HttpPiece> first);

  /// Whether a piece begins where the last one ends, and the request would not become too large.
  [[nodiscard]] bool has_place_for(const HttpPiece& piece) const;
  /// Before the request is made.
  void append(std::shared_ptr<HttpPiece> piece);

  /// How many bytes would have to be passed over for `piece` in a reply that is the whole; absent
  /// if it cannot come by this reply.
  [[nodiscard]] std::optional<uint64_t> distance_to(const HttpPiece& piece) const;
  /// Gives it what is here already of it. distance_to() it is known.
  void join(std::shared_ptr<HttpPiece> piece);
  /// The reply goes on, and nobody wants its bytes now.
  [[nodiscard]] bool is_idle() const { return is_whole_ && !is_wanted(); }
  [[nodiscard]] const HttpTarget& target() const { return *target_; }
  /// When a piece was last brought whole; InfinitePast() for none yet.
  [[nodiscard]] absl::Time last_done() const { return last_done_; }

  [[nodiscard]] HttpRequest request() override;
  [[nodiscard]] std::optional<HttpFailure> begin(const HttpHead& head, absl::Time now) override;
  [[nodiscard]] Take take(absl::Span<const std::byte> bytes, HttpFailure& why) override;
  [[nodiscard]] std::optional<HttpFailure> end() override;
  void fail(const absl::Status& why) override;
  void expire(absl::Time now) override;
  [[nodiscard]] bool is_wanted() const override;

 private:
  [[nodiscard]] std::optional<HttpFailure> begin_whole(const HttpHead& head);
  [[nodiscard]] std::optional<HttpFailure> begin_part(const HttpHead& head);
  [[nodiscard]] HttpFailure changed(const std::string& why);
  void deliver(absl::Span<const std::byte> bytes);
  void drop_finished();
  void start_clocks();

  const std::shared_ptr<HttpTarget> target_;
  std::deque<std::shared_ptr<HttpPiece>> pieces_;  ///< by offset
  absl::Time last_done_ = absl::InfinitePast();
  uint64_t asked_first_ = 0;
  uint64_t asked_end_ = 0;

  // Of the reply under way.
  bool is_whole_ = false;
  uint64_t position_ = 0;         ///< of the next byte that nobody got
  uint64_t end_ = 0;              ///< where the reply ends
  std::vector<std::byte> ahead_;  ///< from position_ on, read with what was wanted
};

}  // namespace blobcache::net
