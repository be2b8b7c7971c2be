// What is worth bringing before it is asked for: decided by offsets alone.

#include "store/page/readahead.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <tuple>
#include <vector>

namespace blobcache::page {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kGiB = 1024 * kMiB;
constexpr int64_t kMs = 1'000'000;

/// A reader and what was brought for it, page by page.
class Model {
 public:
  explicit Model(uint64_t size_bytes, uint64_t max_window = 64 * kMiB)
      : pages_(size_bytes / kPage, State::kAbsent), readahead_(size_bytes, max_window) {}

  /// Reads; whether it had to wait.
  bool read(uint64_t offset, uint64_t length) {
    bool waited = false;
    bool tells = false;
    for (uint64_t page = offset / kPage; page * kPage < offset + length; ++page) {
      State& state = pages_.at(page);
      if (state == State::kAbsent) waited = true;
      if (state == State::kBrought) {
        tells = true;
        ++used;
        --unread;
      }
      state = State::kRead;
    }
    reads += 1;
    waits += waited ? 1 : 0;
    if (waited || tells) bring(readahead_.on_read({offset, length, waited, now_ns}, room()));
    return waited;
  }
  void bring(const Readahead::Stretches& stretches) {
    for (const Readahead::Stretch& stretch : stretches) {
      REQUIRE(stretch.length > 0);
      for (uint64_t page = stretch.offset / kPage; page * kPage < stretch.offset + stretch.length;
           ++page) {
        State& state = pages_.at(page);
        if (state != State::kAbsent) continue;
        state = State::kBrought;
        ++brought;
        ++unread;
      }
    }
    most_unread = std::max(most_unread, unread);
  }
  /// All that was brought and not read goes.
  void evict_unread() {
    std::replace(pages_.begin(), pages_.end(), State::kBrought, State::kAbsent);
    unread = 0;
    readahead_.on_evicted_unread();
  }
  [[nodiscard]] std::function<uint64_t()> room() {
    return [this] { return budget > unread * kPage ? (budget - unread * kPage) / 2 : 0; };
  }
  [[nodiscard]] Readahead& readahead() { return readahead_; }

  static constexpr uint64_t kPage = 4 * kKiB;
  int64_t now_ns = 0;
  uint64_t budget = 256 * kMiB;
  uint64_t reads = 0;
  uint64_t waits = 0;
  uint64_t brought = 0;  ///< pages, as the next ones
  uint64_t used = 0;
  uint64_t unread = 0;
  uint64_t most_unread = 0;

 private:
  enum class State : uint8_t { kAbsent, kBrought, kRead };
  std::vector<State> pages_;
  Readahead readahead_;
};

}  // namespace

TEST_CASE("readahead: a sequential reader waits a few times, and what is brought is read") {
  for (const uint64_t length : {4 * kKiB, 128 * kKiB, kMiB}) {
    CAPTURE(length);
    Model model(64 * kMiB);
    for (uint64_t at = 0; at < 64 * kMiB; at += length) model.read(at, length);
    CHECK(model.waits <= 4);
    CHECK(model.used == model.brought);
  }
}

TEST_CASE("readahead: two adjacent reads anywhere begin a stream, and one does not") {
  Model model(kGiB);
  model.read(100 * kMiB, 64 * kKiB);
  CHECK(model.brought == 0);
  model.read(100 * kMiB + 64 * kKiB, 64 * kKiB);
  CHECK(model.brought > 0);
  CHECK(model.brought * Model::kPage <= Readahead::kFirstWindow);
  // Overlapping ones are adjacent, too.
  Model overlapping(kGiB);
  overlapping.read(100 * kMiB, 64 * kKiB);
  overlapping.read(100 * kMiB + 32 * kKiB, 64 * kKiB);
  CHECK(overlapping.brought > 0);
}

TEST_CASE("readahead: the first read of an object's first byte brings four times as much") {
  Model model(kGiB);
  model.read(0, 4 * kKiB);
  CHECK(model.brought == 8);  // a read that waited doubles it
  CHECK_FALSE(model.read(4 * kKiB, 4 * kKiB));
}

TEST_CASE("readahead: backward") {
  for (const uint64_t length : {4 * kKiB, 64 * kKiB}) {
    CAPTURE(length);
    Model model(64 * kMiB + 12 * kKiB);
    for (uint64_t at = 64 * kMiB; at > 0; at -= length) model.read(at - length, length);
    CHECK(model.waits <= 6);
    CHECK(model.used == model.brought);
  }
}

TEST_CASE("readahead: a stride, either way, brings what is read and nothing between") {
  const uint64_t stride = kMiB + 24 * kKiB;
  const uint64_t length = 16 * kKiB;
  for (const bool backward : {false, true}) {
    CAPTURE(backward);
    Model model(kGiB);
    for (uint64_t i = 0; i < 900; ++i) {
      model.read((backward ? 901 - i : 1 + i) * stride, length);
    }
    CHECK(model.waits <= 8);
    CHECK(model.brought - model.used <= Readahead::kFirstWindow / Model::kPage);
    CHECK(model.used > 880 * length / Model::kPage);
  }
}

TEST_CASE("readahead: readers that take turns have a stream each") {
  constexpr uint64_t kReaders = 6;
  constexpr uint64_t kLength = 32 * kKiB;
  Model model(kGiB);
  for (uint64_t i = 0; i < 600; ++i) {
    for (uint64_t reader = 0; reader < kReaders; ++reader) {
      model.read(reader * 100 * kMiB + 8 * kMiB + i * kLength, kLength);
    }
    model.read(700 * kMiB + i * 512 * kKiB, 4 * kKiB);  // and one with a stride
  }
  CHECK(model.waits <= 8 * (kReaders + 1));
  CHECK(model.brought - model.used <= (kReaders + 1) * 2 * Readahead::kFirstWindow / Model::kPage);
}

TEST_CASE("readahead: gaps, steps back and reads of others do not break a stream") {
  std::mt19937_64 random(7);
  Model model(kGiB);
  uint64_t at = 0;
  uint64_t steps = 0;
  for (; at < 200 * kMiB; ++steps) {
    model.read(at, 64 * kKiB);
    at += 64 * kKiB;
    if (steps % 10 == 3) at += 4 * kKiB * (random() % 20);       // a gap
    if (steps % 10 == 5) model.read(at - 192 * kKiB, 4 * kKiB);  // a step back
    if (steps % 10 == 7) {
      model.read(300 * kMiB + random() % 100000 * 4096, 4 * kKiB);  // somebody else
    }
  }
  CHECK(model.waits <= steps / 10 + 20);  // the others', and few
}

TEST_CASE("readahead: reads that are in order by and large are one stream") {
  // As many requests of one reader arrive that are served by several threads.
  std::mt19937_64 random(3);
  Model model(256 * kMiB);
  for (uint64_t batch = 0; batch < 256 * kMiB; batch += 512 * kKiB) {
    std::vector<uint64_t> order;
    for (uint64_t i = 0; i < 4; ++i) order.push_back(batch + i * 128 * kKiB);
    std::shuffle(order.begin(), order.end(), random);
    for (const uint64_t at : order) model.read(at, 128 * kKiB);
  }
  CHECK(model.waits <= 24);
  CHECK(model.used == model.brought);
}

TEST_CASE("readahead: random reads bring next to nothing") {
  for (const uint64_t size : {256 * kMiB, kGiB, 64 * kGiB}) {
    CAPTURE(size);
    std::mt19937_64 random(size);
    Model model(std::min(size, 4 * kGiB));
    for (int i = 0; i < 20000; ++i) {
      const uint64_t pages = std::min(size, 4 * kGiB) / Model::kPage;
      model.read(random() % pages * Model::kPage, Model::kPage);
    }
    CHECK(model.brought <= 2000);  // a tenth of what was read
  }
}

TEST_CASE("readahead: the window grows when the reader waits, to the largest and no further") {
  const auto most_ahead = [](uint64_t max_window, bool waits) {
    Readahead readahead(8 * kGiB, max_window);
    uint64_t ahead = 0;
    uint64_t most = 0;
    for (uint64_t at = 0; at < 2 * kGiB; at += 128 * kKiB) {
      const auto out = readahead.on_read({at, 128 * kKiB, waits, 0}, [] { return kGiB; });
      for (const auto& stretch : out) ahead = std::max(ahead, stretch.offset + stretch.length);
      if (ahead > at + 128 * kKiB) most = std::max(most, ahead - (at + 128 * kKiB));
    }
    return most;
  };
  CHECK(most_ahead(64 * kMiB, false) <= Readahead::kFirstWindow);
  // How fast the reader is and how slow the source is not known: a modest one.
  CHECK(most_ahead(64 * kMiB, true) == 8 * kMiB);
  CHECK(most_ahead(2 * kMiB, true) == 2 * kMiB);
}

TEST_CASE("readahead: the window is what the reader takes while the source answers, four times") {
  // A reader of 100 MB/s that waits for each read, of a source that needs 50 ms or 1 ms.
  for (const auto& [latency, least, most] :
       {std::tuple{50 * kMs, 16 * kMiB, 21 * kMiB}, {1 * kMs, 4 * kMiB, 4 * kMiB}}) {
    CAPTURE(latency);
    Readahead readahead(8 * kGiB, 64 * kMiB);
    uint64_t ahead = 0;
    uint64_t now_ahead = 0;
    for (uint64_t i = 0; i < 8000; ++i) {
      const uint64_t at = i * 128 * kKiB;
      readahead.on_answer(latency);
      const auto now = static_cast<int64_t>(i) * 1'310'720;
      for (const auto& stretch :
           readahead.on_read({at, 128 * kKiB, true, now}, [] { return kGiB; })) {
        ahead = stretch.offset + stretch.length;
      }
      if (i > 4000) now_ahead = std::max(now_ahead, ahead - at - 128 * kKiB);
    }
    CHECK(now_ahead >= least);
    CHECK(now_ahead <= most);
  }
}

TEST_CASE("readahead: what was evicted unread halves the window, and is brought again") {
  Model model(kGiB);
  uint64_t at = 0;
  const auto go_on = [&](uint64_t bytes) {
    for (const uint64_t stop = at + bytes; at < stop; at += 128 * kKiB) model.read(at, 128 * kKiB);
  };
  go_on(16 * kMiB);
  const uint64_t before = model.most_unread;
  for (int i = 0; i < 3; ++i) {
    model.evict_unread();
    go_on(128 * kKiB);
  }
  model.most_unread = 0;
  const uint64_t waits = model.waits;
  go_on(128 * kKiB);
  CHECK(model.most_unread < before);
  go_on(16 * kMiB);
  CHECK(model.waits <= waits + 4);
}

TEST_CASE("readahead: streams share the budget, and no reader gets none") {
  constexpr uint64_t kReaders = 8;
  Model model(8 * kGiB, 64 * kMiB);
  model.budget = 8 * kMiB;
  std::vector<uint64_t> waits(kReaders);
  for (uint64_t i = 0; i < 4000; ++i) {
    for (uint64_t reader = 0; reader < kReaders; ++reader) {
      const uint64_t at = reader * kGiB + 4096 + i * 128 * kKiB;
      if (model.read(at, 128 * kKiB)) ++waits.at(reader);
    }
    CHECK(model.unread * Model::kPage <= model.budget);
  }
  for (const uint64_t each : waits) CHECK(each <= 40);
}

TEST_CASE("readahead: ends at the object's end, and after a failure there is a pause") {
  Model model(10 * kMiB);
  for (uint64_t at = 0; at < 10 * kMiB; at += 256 * kKiB) model.read(at, 256 * kKiB);
  CHECK(model.unread == 0);  // Model::bring() would have thrown beyond the end

  Readahead readahead(kGiB, 64 * kMiB);
  const auto advice = [&](uint64_t at, int64_t now) {
    return readahead.on_read({at, 128 * kKiB, true, now}, [] { return kGiB; });
  };
  CHECK_FALSE(advice(0, 0).empty());
  readahead.on_failure(10 * kMs);
  CHECK(advice(128 * kKiB, 20 * kMs).empty());
  CHECK(advice(256 * kKiB, 1000 * kMs).empty());
  const auto again = advice(384 * kKiB, 1011 * kMs);
  REQUIRE_FALSE(again.empty());
  CHECK(again.front().offset == 512 * kKiB);
}

}  // namespace blobcache::page
