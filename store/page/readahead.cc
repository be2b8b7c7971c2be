#include "store/page/readahead.h"

#include <algorithm>

#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

/// Steps back, and gaps, that a stream of full windows survives.
constexpr uint64_t kTolerance = uint64_t{4} << 20;
/// Before it is known what the reader takes and the source needs; and what a reader that waits may
/// have in any case, since a disk that is asked for little at a time is slow.
constexpr uint64_t kUnknownWindow = uint64_t{8} << 20;
constexpr uint64_t kLeastMost = uint64_t{4} << 20;
/// As much is asked for at once, where the window is larger.
constexpr uint64_t kAtOnce = uint64_t{1} << 20;
/// A stride may be so long; and as many reads are asked for ahead.
constexpr uint64_t kMaxStride = uint64_t{64} << 20;
constexpr uint64_t kMaxStrides = 256;
/// The speed is measured over at least this; a reader that was away for so long has no speed.
constexpr int64_t kMeasureNs = 20'000'000;
constexpr int64_t kAwayNs = 1'000'000'000;
constexpr int64_t kPauseNs = 1'000'000'000;

uint64_t first_window(uint64_t length) {
  return std::clamp<uint64_t>(4 * length, 4 * kPageSize, Readahead::kFirstWindow);
}

}  // namespace

uint64_t Readahead::position(const Stream& stream, const Read& read) const {
  return stream.mirrored ? size_bytes_ - (read.offset + read.length) : read.offset;
}

bool Readahead::belongs(const Stream& stream, const Read& read) const {
  const uint64_t at = position(stream, read);
  const uint64_t tolerance = std::min(stream.window, kTolerance);
  if (stream.stride != 0) {
    if (read.length > stream.stride || at + stream.stride < stream.next) return false;
    const uint64_t from = at + stream.stride - stream.next;  // one step back is a re-read
    return from % stream.stride == 0 && at <= stream.ahead + stream.stride;
  }
  return at + tolerance >= stream.next && at <= std::max(stream.ahead, stream.next) + tolerance;
}

Readahead::Stream* Readahead::find(const Read& read) {
  Stream* best = nullptr;
  for (Stream& stream : streams_) {
    if (!belongs(stream, read)) continue;
    if (position(stream, read) == stream.next) return &stream;
    if (best == nullptr || stream.used > best->used) best = &stream;
  }
  return best;
}

bool Readahead::goes_backward(const Read& read) const {
  const auto before = [this](uint64_t end) {
    return std::find_if(recent_.begin(), recent_.end(), [end](const Recent& recent) {
      return recent.length != 0 && recent.offset == end;
    });
  };
  const auto* const last = before(read.offset + read.length);
  return last != recent_.end() && before(last->offset + last->length) != recent_.end();
}

uint64_t Readahead::stride_to(const Read& read, bool& mirrored) const {
  for (const Recent& last : recent_) {
    if (last.length != read.length || last.offset == read.offset) continue;
    mirrored = last.offset > read.offset;
    const uint64_t stride = mirrored ? last.offset - read.offset : read.offset - last.offset;
    if (stride <= read.length || stride > kMaxStride) continue;
    // Unsigned arithmetic wraps, and so does what is compared with it.
    const uint64_t first = mirrored ? last.offset + stride : last.offset - stride;
    for (const Recent& recent : recent_) {
      if (recent.length == read.length && recent.offset == first) return stride;
    }
  }
  return 0;
}

Readahead::Stream* Readahead::add(const Read& read, bool mirrored, uint64_t stride) {
  Stream* place = nullptr;
  if (streams_.size() < kMaxStreams) {
    place = &streams_.emplace_back();
  } else {
    place = &*std::min_element(streams_.begin(), streams_.end(),
                               [](const Stream& a, const Stream& b) { return a.used < b.used; });
  }
  *place = {};
  place->mirrored = mirrored;
  place->stride = stride;
  place->next = place->ahead = position(*place, read);
  place->window = first_window(read.length);
  place->since_ns = read.now_ns;
  return place;
}

Readahead::Stream* Readahead::begin(const Read& read) {
  Stream* made = nullptr;
  bool mirrored = false;
  const bool follows = std::any_of(recent_.begin(), recent_.end(), [&](const Recent& recent) {
    const uint64_t end = recent.offset + recent.length;
    return recent.length != 0 && recent.offset < read.offset && read.offset <= end &&
           end < read.offset + read.length;
  });
  if (read.offset == 0 || follows) {
    made = add(read, false, 0);
  } else if (goes_backward(read)) {
    made = add(read, true, 0);
  } else if (const uint64_t stride = stride_to(read, mirrored); stride != 0) {
    made = add(read, mirrored, stride);
  }
  recent_.at(oldest_) = {read.offset, read.length};
  oldest_ = (oldest_ + 1) % recent_.size();
  return made;
}

void Readahead::measure(Stream& stream, const Read& read, uint64_t taken) const {
  stream.taken += taken;
  const int64_t time_ns = read.now_ns - stream.since_ns;
  if (time_ns < kMeasureNs) return;
  if (time_ns < kAwayNs) {
    const double rate = static_cast<double>(stream.taken) * 1e9 / static_cast<double>(time_ns);
    const auto now = static_cast<uint64_t>(rate);
    // Faster at once, slower by and by: who waits for us is not a slow reader.
    stream.rate = now > stream.rate ? now : (3 * stream.rate + now) / 4;
  }
  stream.taken = 0;
  stream.since_ns = read.now_ns;
}

uint64_t Readahead::allowed(const Stream& stream) const {
  uint64_t most = kUnknownWindow;
  if (stream.rate != 0 && latency_ns_ != 0) {
    const double product =
        static_cast<double>(stream.rate) * static_cast<double>(latency_ns_) / 1e9;
    most = std::max(kLeastMost, 4 * static_cast<uint64_t>(product));
  }
  return std::min({stream.window, most, max_window_});
}

Readahead::Stretches Readahead::on_read(const Read& read, absl::FunctionRef<uint64_t()> room) {
  Stretches out;
  Stream* stream = find(read);
  if (stream == nullptr) stream = begin(read);
  if (stream == nullptr) return out;
  stream->used = ++clock_;
  stream->length = std::max(stream->length, read.length);
  const uint64_t at = position(*stream, read);
  const uint64_t end = stream->stride == 0 ? at + read.length : at + stream->stride;
  if (end <= stream->next) return out;  // a step back
  const bool leaps =
      stream->stride == 0 && at > std::max(stream->ahead, stream->next) + read.length;
  measure(*stream, read, read.length);
  stream->next = end;
  stream->ahead = std::max(stream->ahead, end);
  // What comes after a gap is waited for: perhaps it goes on there, perhaps it is somebody else.
  if (leaps || read.now_ns < paused_until_ns_) return out;
  if (read.waited) stream->window = std::min(2 * stream->window, max_window_);
  if (stream->stride == 0) {
    extend(*stream, room, out);
  } else {
    extend_strided(*stream, room, out);
  }
  return out;
}

void Readahead::put(const Stream& stream, uint64_t from, uint64_t length, Stretches& out) const {
  out.push_back({stream.mirrored ? size_bytes_ - (from + length) : from, length});
}

void Readahead::extend(Stream& stream, absl::FunctionRef<uint64_t()> room, Stretches& out) const {
  const uint64_t most = allowed(stream);
  // Little by little: a disk that is told of half a window at once answers all of it at once, too,
  // and has nothing to do until that is read.
  const uint64_t missing = most - std::min(most, stream.ahead - stream.next);
  if (missing < std::min(most / 2, kAtOnce) || stream.ahead >= size_bytes_) return;
  uint64_t target = std::min({stream.next + most, stream.ahead + room(), size_bytes_});
  // By whole extents, which are one request each; the object's end counts as one.
  if (most >= kFirstWindow && !stream.mirrored && target < size_bytes_) {
    target = target / kExtentSize * kExtentSize;
  }
  if (target <= stream.ahead) return;
  put(stream, stream.ahead, target - stream.ahead, out);
  stream.ahead = target;
  if (stream.window < kFirstWindow) stream.window = std::min(2 * stream.window, kFirstWindow);
}

void Readahead::extend_strided(Stream& stream, absl::FunctionRef<uint64_t()> room,
                               Stretches& out) const {
  const uint64_t most =
      std::min(kMaxStrides, std::max<uint64_t>(allowed(stream) / stream.length, 1));
  const uint64_t have = (stream.ahead - stream.next) / stream.stride;
  if (have > most / 2) return;
  uint64_t left = room();
  for (uint64_t i = have; i < most && left >= stream.length; ++i) {
    if (stream.ahead + stream.length > size_bytes_) return;
    put(stream, stream.ahead, stream.length, out);
    stream.ahead += stream.stride;
    left -= stream.length;
  }
  if (stream.window < kFirstWindow) stream.window = std::min(2 * stream.window, kFirstWindow);
}

void Readahead::on_answer(int64_t latency_ns) {
  const int64_t raised = latency_ns_ + latency_ns_ / 64;
  latency_ns_ = latency_ns_ == 0 ? latency_ns : std::min(latency_ns, raised);
}

void Readahead::on_evicted_unread() {
  for (Stream& stream : streams_) {
    stream.window = std::max(stream.window / 2, 4 * kPageSize);
    stream.ahead = stream.next;  // what is there still costs nothing to ask for
  }
}

void Readahead::on_failure(int64_t now_ns) {
  paused_until_ns_ = now_ns + kPauseNs;
  for (Stream& stream : streams_) {
    stream.window = std::min(stream.window, kFirstWindow);
    stream.ahead = stream.next;
  }
}

}  // namespace blobcache::page
