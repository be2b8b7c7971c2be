#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "store/volume/volume.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {

/// One operation of the load.
struct Op {
  enum class Kind : uint8_t {
    kWrite,
    kZero,
    kFillZero,
    kTrim,
    kFlush,
    kClose,
    kChurn,  ///< writes and trims a page until the journal has been filled to a quarter
  };
  Kind kind = Kind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t seed = 0;  ///< of the bytes
  bool fua = false;
};

/// How far the load came; in memory that outlives its process.
struct CrashProgress {
  static constexpr size_t kMaxThreads = 2;
  std::array<std::atomic<uint64_t>, kMaxThreads> answered{};  ///< operations, by thread
  std::atomic<uint64_t> failed{0};
};

/// A load of random operations that the seed alone decides, so that who has not seen it run knows
/// what it did. Each thread has a part of the volume to itself; the parts meet within an extent.
class CrashLoad {
 public:
  CrashLoad(uint64_t seed, size_t threads, bool churns = false)
      : seed_(seed), threads_(threads), churns_(churns) {}

  static constexpr uint64_t kSize = (uint64_t{5} << 20) + 3 * 4096 + 100;
  static constexpr uint64_t kBaseSize = (uint64_t{4} << 20) + 777;

  [[nodiscard]] Op op(size_t thread, uint64_t number) const;
  [[nodiscard]] static Bytes bytes_of(const Op& op);
  [[nodiscard]] size_t threads() const { return threads_; }
  [[nodiscard]] Bytes base_content() const { return random_bytes(kBaseSize, seed_ + 1); }

  /// Runs up to `most` operations a thread.
  void run(const VolumeOptions& options, uint64_t most, CrashProgress& progress) const;

 private:
  [[nodiscard]] uint64_t begin_of(size_t thread) const;

  const uint64_t seed_;
  const size_t threads_;
  const bool churns_;  ///< so that checkpoints come while it runs
};

/// What each sector of the volume may hold after a crash: of those versions that no flush has
/// replaced, any.
class SectorModel {
 public:
  static constexpr uint64_t kSector = 512;

  explicit SectorModel(const Bytes& content);
  /// `answered`: the operation came to its end; else it may have, in part.
  void apply(const Op& op, bool answered);
  /// All that was answered is durable: only the last version of a sector may be there.
  void settle(uint64_t begin, uint64_t end);
  /// What is wrong with the content; empty: nothing.
  [[nodiscard]] std::string problem(const Bytes& content) const;

 private:
  void put(uint64_t offset, const Bytes& bytes, bool answered);

  std::vector<std::vector<std::string>> sectors_;  ///< the present version last
  std::vector<std::vector<std::string>> maybe_;    ///< by operations that were not answered
};

/// The volume's content as a crash may leave it: of a kill exactly what was answered (`settled`).
[[nodiscard]] SectorModel expected_after(const CrashLoad& load, const CrashProgress& progress,
                                         bool has_base, bool killed_only);

}  // namespace blobcache::volume
