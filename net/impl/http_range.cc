#include "net/impl/http_range.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/time/clock.h"
#include "base/http_url.h"
#include "base/status.h"
#include "base/url_escape.h"

namespace blobcache::net {

namespace {

constexpr int kWhole = 200;
constexpr int kPart = 206;
constexpr int kOtherVersion = 412;

}  // namespace

void HttpPiece::finish(const absl::Status& status) {
  if (is_over) return;
  is_over = true;
  into = {};
  page::Source::FetchDone tell = std::move(done);
  tell(status);
}

HttpRangeJob::HttpRangeJob(std::shared_ptr<HttpPiece> first) : target_(first->target) {
  pieces_.push_back(std::move(first));
}

bool HttpRangeJob::has_place_for(const HttpPiece& piece) const {
  return piece.target == target_ && piece.offset == pieces_.back()->end() &&
         piece.end() - pieces_.front()->offset <= kMostBytes;
}

void HttpRangeJob::append(std::shared_ptr<HttpPiece> piece) { pieces_.push_back(std::move(piece)); }

std::optional<uint64_t> HttpRangeJob::distance_to(const HttpPiece& piece) const {
  if (!is_whole_ || piece.target != target_ || piece.next() < position_) return std::nullopt;
  const uint64_t distance = piece.next() - position_;
  return distance <= kMostSkipped ? std::optional(distance) : std::nullopt;
}

void HttpRangeJob::join(std::shared_ptr<HttpPiece> piece) {
  const auto place =
      std::upper_bound(pieces_.begin(), pieces_.end(), piece,
                       [](const auto& a, const auto& b) { return a->offset < b->offset; });
  pieces_.insert(place, std::move(piece));
  start_clocks();
  const std::vector<std::byte> ahead = std::exchange(ahead_, {});
  deliver(ahead);
}

bool HttpRangeJob::is_wanted() const {
  return std::any_of(pieces_.begin(), pieces_.end(),
                     [](const auto& piece) { return !piece->is_over; });
}

/// Waiting for a place was no fault of theirs.
void HttpRangeJob::start_clocks() {
  const absl::Time now = absl::Now();
  for (const auto& piece : pieces_) {
    if (!std::exchange(piece->is_asked_for, true)) piece->start = now;
  }
}

void HttpRangeJob::drop_finished() {
  while (!pieces_.empty() && pieces_.front()->is_over) pieces_.pop_front();
}

HttpRequest HttpRangeJob::request() {
  is_whole_ = false;
  ahead_.clear();
  std::erase_if(pieces_, [](const auto& piece) { return piece->is_over; });
  start_clocks();
  HttpRequest request;
  request.path = target_->path;
  request.headers = target_->version.conditions();
  if (target_->by_version_id)
    request.query = "versionId=" + base::escape_url(target_->version.version_id, false);
  asked_first_ = pieces_.front()->next();
  // After a reply that was the whole there may be gaps between them, of any size.
  asked_end_ = pieces_.front()->end();
  for (const auto& piece : pieces_) {
    if (piece->offset != asked_end_ && piece != pieces_.front()) break;
    asked_end_ = piece->end();
  }
  request.headers.push_back(fmt::format("Range: bytes={}-{}", asked_first_, asked_end_ - 1));
  return request;
}

HttpFailure HttpRangeJob::changed(const std::string& why) {
  if (!target_->version.is_strong()) target_->is_over = true;
  return {
      base::error(absl::StatusCode::kUnavailable,
                  fmt::format("the file changed at the origin while it was open ({}); who opens "
                              "it now gets the new one",
                              why))};
}

std::optional<HttpFailure> HttpRangeJob::begin(const HttpHead& head, absl::Time now) {
  if (target_->is_over) return changed("as was seen before");
  if (head.status == kWhole) return begin_whole(head);
  if (head.status == kPart) return begin_part(head);
  if (head.status == kOtherVersion && !target_->version.version_id.empty() &&
      !target_->by_version_id.exchange(true)) {
    return HttpFailure{absl::OkStatus(), HttpFailure::Again::kFew};
  }
  std::optional<HttpFailure> failure = judge_status(head, now);
  if (!failure) return malformed_reply(fmt::format("HTTP {} to a range", head.status));
  if (absl::IsAborted(failure->status)) {
    return changed(fmt::format("HTTP {}{}", head.status, status_words(head.status)));
  }
  if (absl::IsNotFound(failure->status)) return changed("it is gone");
  return failure;
}

std::optional<HttpFailure> HttpRangeJob::begin_whole(const HttpHead& head) {
  HttpHead known = head;
  // A reply of no known length may be the whole; it ends where it has to, or is an error.
  if (!known.content_length && target_->version.is_strong()) {
    known.content_length = target_->version.size_bytes;
  }
  const std::string other = target_->version.differs(known);
  if (!other.empty()) return changed(other);
  if (asked_first_ > 0 || asked_end_ < target_->version.size_bytes) target_->is_rangeless = true;
  if (asked_first_ > kMostSkipped) {
    return HttpFailure{absl::UnavailableError(
        fmt::format("the server has no ranges: byte {} could only be had by reading all before it",
                    asked_first_))};
  }
  is_whole_ = true;
  position_ = 0;
  end_ = target_->version.size_bytes;
  return std::nullopt;
}

std::optional<HttpFailure> HttpRangeJob::begin_part(const HttpHead& head) {
  if (!head.content_range || !head.content_range->first) {
    return malformed_reply("a part without a Content-Range");
  }
  const uint64_t first = *head.content_range->first;
  const uint64_t last = *head.content_range->last;
  if (first != asked_first_ || last >= asked_end_) {
    return malformed_reply(fmt::format("bytes {} to {} were asked for, and {} to {} came",
                                       asked_first_, asked_end_ - 1, first, last));
  }
  if (head.content_length && *head.content_length != last - first + 1) {
    return malformed_reply("its Content-Length and its Content-Range differ");
  }
  const std::string other = target_->version.differs(head);
  if (!other.empty()) return changed(other);
  position_ = first;
  end_ = last + 1;
  return std::nullopt;
}

HttpJob::Take HttpRangeJob::take(absl::Span<const std::byte> bytes, HttpFailure& why) {
  if (is_idle()) return Take::kWait;
  if (bytes.size() > end_ - position_) {
    why = malformed_reply("it has more bytes than it said");
    return Take::kBad;
  }
  deliver(bytes);
  return Take::kMore;
}

void HttpRangeJob::deliver(absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    drop_finished();
    if (pieces_.empty() && is_whole_) {
      ahead_.assign(bytes.begin(), bytes.end());
      return;
    }
    uint64_t step = bytes.size();
    if (pieces_.empty()) {
      position_ += step;
      return;
    }
    const std::shared_ptr<HttpPiece> piece = pieces_.front();
    if (position_ < piece->next()) {
      step = std::min(step, piece->next() - position_);
    } else {
      step = std::min<uint64_t>(step, piece->into.size() - piece->filled);
      std::memcpy(piece->into.data() + piece->filled, bytes.data(), step);
      piece->filled += step;
      progressed = true;
      target_->vitals->bytes_read += step;
    }
    position_ += step;
    bytes.remove_prefix(step);
    if (piece->filled == piece->into.size()) {
      pieces_.pop_front();
      last_done_ = absl::Now();
      piece->finish(absl::OkStatus());
    }
  }
}

std::optional<HttpFailure> HttpRangeJob::end() {
  const uint64_t arrived = position_ + ahead_.size();
  const bool was_whole = std::exchange(is_whole_, false);
  if (arrived < end_ && is_wanted()) {
    return HttpFailure{absl::UnavailableError(fmt::format(
                           "the server's reply ends at byte {} instead of {}", arrived, end_)),
                       HttpFailure::Again::kLong, true};
  }
  if (!is_wanted()) return std::nullopt;
  if (was_whole && !progressed) return malformed_reply("the whole has not the bytes");
  return HttpFailure{absl::OkStatus(), HttpFailure::Again::kFew};
}

void HttpRangeJob::fail(const absl::Status& why) {
  for (const auto& piece : std::exchange(pieces_, {})) piece->finish(why);
}

void HttpRangeJob::expire(absl::Time now) {
  for (const auto& piece : pieces_) {
    // As long as those before it come one by one, its turn comes, too.
    const absl::Time since = std::max(piece->start, last_done_);
    if (piece->is_over || now - since < piece->timeout) continue;
    piece->finish(base::error(
        absl::StatusCode::kUnavailable,
        fmt::format("the bytes did not come in time{}{}", trouble.empty() ? "" : ": ", trouble)));
  }
}

}  // namespace blobcache::net
