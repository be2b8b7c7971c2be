#pragma once

#include <curl/curl.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "net/impl/http_ask.h"
#include "net/impl/http_breaker.h"
#include "net/impl/http_exchange.h"
#include "net/impl/http_range.h"
#include "net/impl/http_vitals.h"
#include "store/page/rate_limiter.h"

namespace blobcache::net {

/// All that is asked of one origin's server, on one thread, over libcurl's multi interface. At most
/// `connections` requests are under way; what asks what things are goes before what reads them, and
/// pieces that are adjacent and wait together become one request.
///
/// What fails and may pass is tried again, with pauses, until request_timeout after it was asked
/// for. When nothing but failures came for that long the breaker opens: then all that waits and all
/// that comes fails at once, and a probe goes out now and then, as long as somebody asks.
///
/// Thread-safe, but for end(), which the owner calls once and not on the client's thread; what
/// others still ask then fails with UNAVAILABLE.
class HttpClient {
 public:
  static constexpr size_t kMostWaiting = size_t{1} << 14;
  /// A reply that nobody reads on is kept open for as long.
  static constexpr absl::Duration kIdle = absl::Seconds(5);
  /// Longer than this nobody waits because a server says so.
  static constexpr absl::Duration kLongestHold = absl::Minutes(5);
  /// What reads goes on for as long after stop().
  static constexpr absl::Duration kGrace = absl::Seconds(2);

  explicit HttpClient(HttpSettings settings);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// Waits, at most request_timeout. UNAVAILABLE if there is no answer; CANCELLED after stop().
  [[nodiscard]] absl::StatusOr<HttpAnswer> ask(HttpRequest request, size_t most_bytes);
  /// The same for many, which together have request_timeout.
  [[nodiscard]] std::vector<absl::StatusOr<HttpAnswer>> ask_all(std::vector<HttpRequest> requests,
                                                                size_t most_bytes);

  /// Does not wait; `done` is called on the client's thread, or the caller's when this has ended.
  /// `piece` needs no times; they are set here.
  void fetch(std::shared_ptr<HttpPiece> piece);
  void cancel(const std::shared_ptr<HttpPiece>& piece);
  /// Somebody waits for it now.
  void hasten(const std::shared_ptr<HttpPiece>& piece);

  [[nodiscard]] const std::shared_ptr<HttpVitals>& vitals() const { return vitals_; }
  [[nodiscard]] const HttpSettings& settings() const { return settings_; }

  /// The daemon ends: who asks gets CANCELLED, reads go on for kGrace.
  void stop();
  /// Ends the thread.
  void end();

 private:
  using Task = absl::AnyInvocable<void()>;
  struct MultiDeleter {
    void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
  };

  /// False, and `task` is untouched, after the end.
  [[nodiscard]] bool post(Task& task);

  // The thread's.
  void run();
  [[nodiscard]] bool run_tasks();
  /// Somebody asks for a path while the breaker is open.
  void miss(std::string path);
  void admit_ask(std::shared_ptr<HttpAsk> ask);
  void admit_piece(const std::shared_ptr<HttpPiece>& piece);
  void sweep(absl::Time now);
  void drop_unwanted(absl::Time now);
  void dispatch(absl::Time now);
  [[nodiscard]] std::shared_ptr<HttpJob> next_job(absl::Time now);
  /// Which of the first `most` pieces is next; `most`: none. What somebody waits for goes before
  /// what nobody does, and finds a connection that is free.
  [[nodiscard]] size_t next_piece(absl::Time now, size_t most) const;
  [[nodiscard]] std::shared_ptr<HttpJob> next_range(absl::Time now);
  void join_open_replies(absl::Time now);
  void probe(absl::Time now);
  void start(const std::shared_ptr<HttpJob>& job, absl::Time now);
  void add(std::unique_ptr<HttpExchange> exchange, absl::Time now);
  /// Whether anything has ended.
  [[nodiscard]] bool collect(absl::Time now);
  void conclude(HttpExchange& exchange, absl::Time now);
  void failed(const std::shared_ptr<HttpJob>& job, const HttpFailure& failure, absl::Time now);
  void server_failed(const absl::Status& why, absl::Time now);
  void server_answered();
  void fail_waiting(const absl::Status& why);
  void fail_all(const absl::Status& why);
  [[nodiscard]] absl::Status given_up() const;
  [[nodiscard]] int pause_ms(absl::Time now) const;
  [[nodiscard]] std::unique_ptr<HttpExchange> take_out(size_t index);
  void recycle(HttpExchange& exchange);

  const HttpSettings settings_;
  const std::shared_ptr<HttpVitals> vitals_;
  const std::unique_ptr<CURLM, MultiDeleter> multi_;

  absl::Mutex mutex_;
  std::vector<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;

  // The thread's.
  HttpBreaker breaker_;
  page::RateLimiter limiter_;
  std::deque<std::shared_ptr<HttpJob>> asks_;
  std::deque<std::shared_ptr<HttpPiece>> pieces_;
  std::vector<std::shared_ptr<HttpJob>> waiting_;  ///< to be tried again, each at its time
  std::vector<std::unique_ptr<HttpExchange>> active_;
  std::vector<CurlEasy> idle_;
  absl::Time hold_until_ = absl::InfinitePast();
  absl::Time last_done_ = absl::InfinitePast();  ///< when bytes last came that somebody waited for
  absl::Time next_sweep_ = absl::InfinitePast();
  absl::Time end_by_ = absl::InfiniteFuture();
  bool is_stopped_ = false;
  bool is_closed_ = false;  ///< and its grace is over
  bool is_missed_ = false;  ///< somebody asked while the breaker was open
  bool is_probing_ = false;
  std::string missed_path_;  ///< what was asked for then, last
  uint32_t probes_ = 0;
  std::string trouble_;
  std::minstd_rand random_;

  std::thread thread_;
};

}  // namespace blobcache::net
