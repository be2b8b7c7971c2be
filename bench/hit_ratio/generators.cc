#include "bench/hit_ratio/generators.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "bench/hit_ratio/random.h"
#include "store/page/geometry.h"

namespace blobcache::hit_ratio {
namespace {

constexpr uint32_t kFull = page::kExtentSize;

/// Objects of different kinds in one trace, kept apart by the upper half of their number.
constexpr uint64_t kind(uint64_t number) { return number << 32; }

Trace zipf(double skew, size_t requests) {
  Random random(1);
  const Zipf ranks(40'000, skew);
  TraceBuilder trace("zipf-" + std::to_string(skew).substr(0, 3));
  while (trace.size() < requests) trace.read(ranks.draw(random), 0, kFull);
  return trace.take();
}

/// A hot set that everybody reads, and backups that read something else once, 16 KiB at a time.
/// `again`: all backups read the same; otherwise each reads what nobody has read or will read.
Trace scans(std::string_view name, bool again, size_t requests) {
  Random random(2);
  const Zipf ranks(20'000, 0.9);
  constexpr uint32_t kHot = 30'000;
  constexpr uint32_t kScan = 20'000;
  TraceBuilder trace{std::string(name)};
  for (uint64_t round = 0; trace.size() < requests; ++round) {
    for (uint32_t i = 0; i < kHot; ++i) trace.read(ranks.draw(random), 0, kFull);
    // The readers of the hot set go on while the scan passes.
    for (uint32_t i = 0; i < kScan; ++i) {
      trace.read(kind(again ? 1 : 1 + round), i, kFull, 16);
      if (i % 2 == 0) trace.read(ranks.draw(random), 0, kFull);
    }
  }
  return trace.take();
}

/// What was read a moment ago is read again, the more likely the shorter ago.
class History {
 public:
  /// Reads again what was read up to `longest` reads ago.
  explicit History(double longest) : longest_(longest) {}

  void step(TraceBuilder& trace, Random& random) {
    uint64_t object = next_;
    const double ago = random.log_uniform(1, longest_);
    if (random.chance(0.08) || ago > static_cast<double>(read_.size())) {
      ++next_;
    } else {
      object = read_[read_.size() - static_cast<size_t>(ago)];
    }
    read_.push_back(object);
    trace.read(kind(7) + object, 0, kFull);
  }

 private:
  const double longest_;
  std::vector<uint64_t> read_;
  uint64_t next_ = 0;
};

/// LRU's best case.
Trace recency(size_t requests) {
  Random random(5);
  History history(200'000);
  TraceBuilder trace("recency");
  while (trace.size() < requests) history.step(trace, random);
  return trace.take();
}

/// The same files, one after the other, again and again, as training reads its data.
Trace loop(size_t requests) {
  constexpr uint32_t kLoop = 20'000;
  TraceBuilder trace("loop");
  for (uint32_t at = 0; trace.size() < requests; at = (at + 1) % kLoop) {
    trace.read(1, at, kFull, 2);
  }
  return trace.take();
}

/// Half of it a loop, half random reads of others.
Trace loop_and_zipf(size_t requests) {
  Random random(3);
  const Zipf ranks(20'000, 0.9);
  constexpr uint32_t kLoop = 20'000;
  TraceBuilder trace("loop+zipf");
  for (uint32_t at = 0; trace.size() < requests; ++at) {
    trace.read(kind(1), at % kLoop, kFull, 2);
    trace.read(ranks.draw(random), 0, kFull);
  }
  return trace.take();
}

/// Days of another kind each: random reads, a loop, what was read lately, another loop.
Trace phases(size_t requests) {
  Random random(11);
  const Zipf ranks(20'000, 0.9);
  TraceBuilder trace("phases");
  const size_t day = std::max<size_t>(1, requests / 4);
  while (trace.size() < day) trace.read(ranks.draw(random), 0, kFull);
  for (uint32_t at = 0; trace.size() < 2 * day; ++at) trace.read(kind(1), at % 15'000, kFull, 2);
  History history(10'000);
  while (trace.size() < 3 * day) history.step(trace, random);
  for (uint32_t at = 0; trace.size() < requests; ++at) trace.read(kind(3), at % 8'000, kFull, 2);
  return trace.take();
}

/// What is popular changes: some of it every few reads, most of it from one day to the next.
Trace drift(size_t requests) {
  Random random(4);
  const Zipf ranks(10'000, 1.0);
  std::vector<uint64_t> named(ranks.count());
  uint64_t next = 0;
  for (uint64_t& object : named) object = next++;
  TraceBuilder trace("drift");
  constexpr size_t kDay = 100'000;
  while (trace.size() < requests) {
    trace.read(named[ranks.draw(random)], 0, kFull);
    if (trace.size() % 20 == 0) named[random.below(named.size())] = next++;
    if (trace.size() % kDay == 0) std::rotate(named.begin(), named.begin() + 1'000, named.end());
  }
  return trace.take();
}

/// Virtual machines on images of 1 GiB: each has its metadata, a working set that moves on, and
/// sequential runs; a few run at a time.
class Machines {
 public:
  explicit Machines(uint64_t seed) : random_(seed) {}

  void step(TraceBuilder& trace) {
    if (++steps_ % 2'000 == 0) first_ = (first_ + 1) % kImages;
    const uint64_t image = (first_ + random_.below(kRunning)) % kImages;
    const double what = random_.share();
    if (what < 0.3) {
      trace.read(kind(8) + image, metadata_.draw(random_), kFull);
    } else if (what < 0.93) {
      // Hot places are spread over the image, other ones in each.
      const uint64_t place = hot_.draw(random_) * uint64_t{2'654'435'761} + image * 977;
      const auto touches = static_cast<uint32_t>(1 + random_.below(3));
      trace.read(kind(8) + image, place % kExtents, kFull, touches);
    } else {
      run(trace, image);
    }
  }

 private:
  static constexpr uint64_t kImages = 10;
  static constexpr uint64_t kRunning = 4;
  static constexpr uint32_t kExtents = 4096;

  void run(TraceBuilder& trace, uint64_t image) {
    const auto length = static_cast<uint32_t>(random_.log_uniform(8, 256));
    // Programs are read from where they lie; other runs begin anywhere.
    const auto begin = static_cast<uint32_t>(random_.chance(0.5) ? 64 * starts_.draw(random_)
                                                                 : random_.below(kExtents));
    for (uint32_t i = 0; i < length; ++i) {
      trace.read(kind(8) + image, (begin + i) % kExtents, kFull, 16);
    }
  }

  Random random_;
  const Zipf metadata_{48, 0.6};
  const Zipf hot_{1'500, 0.9};
  const Zipf starts_{64, 1.0};
  uint64_t steps_ = 0;
  uint64_t first_ = 0;
};

/// Files of all sizes, small ones more often, read whole; some new each day, some popular ones.
class Files {
 public:
  explicit Files(uint64_t seed) : random_(seed), files_(kFiles) {
    for (File& file : files_) file = fresh();
  }

  void step(TraceBuilder& trace) {
    if (random_.chance(0.02)) files_[random_.below(kFiles)] = fresh();
    const File& file = files_[ranks_.draw(random_)];
    trace.read_whole(kind(9) + file.number, file.size_bytes, 2);
  }

 private:
  static constexpr size_t kFiles = 12'000;
  struct File {
    uint64_t number = 0;
    uint64_t size_bytes = 0;
  };

  File fresh() {
    constexpr double kMedian = 200e3;
    constexpr double kLargest = 64e6;
    const double size = std::min(kLargest, random_.log_normal(kMedian, 1.6));
    return {.number = next_++, .size_bytes = 1 + static_cast<uint64_t>(size)};
  }

  Random random_;
  uint64_t next_ = 0;
  const Zipf ranks_{kFiles, 0.8};
  std::vector<File> files_;
};

Trace blocks(size_t requests) {
  Machines machines(6);
  TraceBuilder trace("blocks");
  while (trace.size() < requests) machines.step(trace);
  return trace.take();
}

Trace files(size_t requests) {
  Files files(7);
  TraceBuilder trace("files");
  while (trace.size() < requests) files.step(trace);
  return trace.take();
}

/// Both doors at once, and now and then a checksum run over one large image.
Trace mixed(size_t requests) {
  Random random(8);
  Machines machines(9);
  Files files(10);
  TraceBuilder trace("mixed");
  constexpr uint32_t kImage = 8'000;
  uint64_t images = 0;
  while (trace.size() < requests) {
    if (random.chance(0.5)) {
      machines.step(trace);
    } else {
      files.step(trace);
    }
    if (trace.size() / 100'000 <= images) continue;
    const uint64_t image = kind(10) + images++ % 2;
    for (uint32_t i = 0; i < kImage; ++i) {
      trace.read(image, i, kFull, 16);
      if (i % 4 == 0) machines.step(trace);
    }
  }
  return trace.take();
}

}  // namespace

std::vector<Generator> generators() {
  return {
      {"zipf-0.6", "popularity by Zipf, nearly flat", [](size_t n) { return zipf(0.6, n); }},
      {"zipf-0.8", "popularity by Zipf", [](size_t n) { return zipf(0.8, n); }},
      {"zipf-1.0", "popularity by Zipf", [](size_t n) { return zipf(1.0, n); }},
      {"zipf-1.2", "popularity by Zipf, steep", [](size_t n) { return zipf(1.2, n); }},
      {"scan-new", "Zipf, and scans of what is read only once",
       [](size_t n) { return scans("scan-new", false, n); }},
      {"scan-same", "Zipf, and scans of the same data each time",
       [](size_t n) { return scans("scan-same", true, n); }},
      {"loop", "the same data in the same order, again and again", loop},
      {"loop+zipf", "a loop beside random reads", loop_and_zipf},
      {"phases", "random reads, a loop, recent reads, a loop", phases},
      {"drift", "popularity that moves on", drift},
      {"recency", "read again soon, or not at all", recency},
      {"blocks", "virtual machines on their images", blocks},
      {"files", "whole files of all sizes", files},
      {"mixed", "images, files and checksum runs", mixed},
  };
}

}  // namespace blobcache::hit_ratio
