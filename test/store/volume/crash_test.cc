// Kills and power cuts. A process that works on a volume is killed between any two of its system
// calls, or its power is cut: of what was not synced nothing, all or a random part is left. Then
// every write that was answered, or flushed, has to be there, and each sector as it was or as it
// was written.
//
// Environment: POWER_CUTS, how many (16); POWER_CUT_SEED, to see the same ones again.

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "base/status.h"
#include "test/store/tree/power_cut.h"
#include "test/store/tree/sync_recorder.h"
#include "test/store/volume/crash_load.h"
#include "test/store/volume/volume_fixture.h"
#include "test/temporary_directory.h"

namespace blobcache::volume {
namespace {

namespace fs = std::filesystem;

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// Memory that a child shares with its parent.
class SharedProgress {
 public:
  SharedProgress()
      : memory_(::mmap(nullptr, sizeof(CrashProgress), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        progress_(::new(memory_) CrashProgress()) {}
  ~SharedProgress() { ::munmap(memory_, sizeof(CrashProgress)); }
  SharedProgress(const SharedProgress&) = delete;
  SharedProgress& operator=(const SharedProgress&) = delete;
  [[nodiscard]] CrashProgress& operator*() const { return *progress_; }

 private:
  void* const memory_;
  CrashProgress* const progress_;
};

struct Crash {
  uint64_t seed = 0;
  size_t threads = 1;
  bool has_base = false;
  bool churns = false;
  uint64_t operations = 60;
  uint64_t die_at_step = 0;  ///< the system call before which it is killed; 0: none
  bool cuts_power = false;
  tree::RecordOptions record;  ///< with `cuts_power`
};

/// One volume that crashes.
class CrashedVolume {
 public:
  explicit CrashedVolume(const Crash& crash)
      : crash_(crash), load_(crash.seed, crash.threads, crash.churns) {
    fs::create_directory(store());
    fs::create_directory(directory_.path() / "record");
    fs::create_directory(directory_.path() / "base");
    const pid_t child = ::fork();
    if (child == 0) {
      run_child();
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE((WIFSIGNALED(status) || WEXITSTATUS(status) == 0));
    REQUIRE((*progress_).failed.load() == 0);
  }

  /// What is wrong with the volume at `store`, opened under another boot or the same one; empty:
  /// nothing.
  [[nodiscard]] std::string problem(const fs::path& store, const BootId& boot_id) {
    if (!fs::exists(store / "volume" / "header")) {
      return created() ? "the volume is gone" : "";
    }
    Workers workers(2);
    const std::unique_ptr<TestBase> base = make_base();
    std::string problem = look(options_for(store, workers, base.get(), boot_id));
    if (!problem.empty()) return problem;
    // What a recovery leaves is as good as what it made of it.
    problem = look(options_for(store, workers, base.get(), boot(99)));
    return problem.empty() ? "" : "after another cut: " + problem;
  }
  [[nodiscard]] std::string problem_after_kill() { return problem(store(), boot(1)); }
  [[nodiscard]] std::string problem_after_cut(tree::Unsynced unsynced, uint64_t seed) {
    const fs::path left = directory_.path() / "left";
    fs::remove_all(left);
    tree::cut_power({store(), directory_.path() / "record", unsynced, seed}, left);
    return problem(left, boot(2));
  }

 private:
  [[nodiscard]] fs::path store() const { return directory_.path() / "store"; }
  [[nodiscard]] bool created() const {
    return (*progress_).answered.at(0) + (*progress_).answered.at(1) > 0;
  }

  [[nodiscard]] std::unique_ptr<TestBase> make_base() const {
    return crash_.has_base ? std::make_unique<TestBase>(load_.base_content()) : nullptr;
  }

  static VolumeOptions options_for(const fs::path& store, Workers& workers, TestBase* base,
                                   const BootId& boot_id) {
    VolumeOptions options;
    options.path = store / "volume";
    options.workers = &workers;
    options.boot_id = boot_id;
    options.cached_blocks = VolumeOptions::kMinCachedBlocks;
    if (base != nullptr) options.base = base->object();
    return options;
  }

  void run_child() {
    Workers workers(3);
    // Where the parent removes it.
    std::unique_ptr<TestBase> base;
    if (crash_.has_base) {
      base = std::make_unique<TestBase>(load_.base_content(), directory_.path() / "base");
    }
    VolumeOptions options = options_for(store(), workers, base.get(), boot(1));
    // Made before anything may go wrong: what create() leaves has tests of its own.
    if (!Volume::create(options, CrashLoad::kSize).ok()) ::_exit(1);
    while (!Volume::open(options).ok()) std::this_thread::yield();
    if (crash_.cuts_power) {
      tree::RecordOptions record = crash_.record;
      record.store = store();
      record.record = directory_.path() / "record";
      tree::record_syncs(record);
    }
    std::atomic<uint64_t> steps{0};
    if (crash_.die_at_step != 0) {
      options.disk_fault = [&](const page::DiskStep& /*step*/) {
        if (++steps == crash_.die_at_step) ::raise(SIGKILL);
        return 0;
      };
    }
    load_.run(options, crash_.operations, *progress_);
    // Nothing else is to end in an orderly way.
    ::raise(SIGKILL);
  }

  std::string look(const VolumeOptions& options) {
    auto opened = Volume::open(options);
    if (!opened.ok()) return "cannot be opened: " + std::string(base::message(opened.status()));
    Bytes content(CrashLoad::kSize);
    if (absl::Status status = (*opened)->read_wait(0, absl::MakeSpan(content)); !status.ok()) {
      return "cannot be read: " + std::string(base::message(status));
    }
    const uint64_t data = (*opened)->stats().data_bytes;
    uint64_t mapped = 0;
    const auto runs = (*opened)->map_wait(0, CrashLoad::kSize, 100000);
    if (!runs.ok()) return "has no map";
    for (const Run& run : *runs) {
      if (run.kind == Run::Kind::kData) mapped += (run.length_bytes + 4095) / 4096 * 4096;
    }
    if (mapped != data) return "counts its pages wrong";
    if (!(*opened)->close().ok()) return "cannot be closed";
    if (!expected_) {
      expected_ = expected_after(load_, *progress_, crash_.has_base, !crash_.cuts_power);
    }
    return expected_->problem(content);
  }

  const Crash crash_;
  const CrashLoad load_;
  const SharedProgress progress_;
  std::optional<SectorModel> expected_;
  const test::TemporaryDirectory directory_;
};

}  // namespace

TEST_CASE("a kill between any two system calls takes nothing that was answered") {
  const uint64_t seed = from_environment("POWER_CUT_SEED", std::random_device()());
  const uint64_t count = from_environment("POWER_CUTS", 16);
  MESSAGE("POWER_CUT_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < count; ++i) {
    Crash crash;
    crash.seed = random();
    crash.threads = 1 + random() % 2;
    crash.has_base = random() % 2 == 0;
    crash.die_at_step = 1 + random() % 500;
    CAPTURE(crash.seed);
    CAPTURE(crash.die_at_step);
    CrashedVolume volume(crash);
    CHECK(volume.problem_after_kill() == "");
  }
}

TEST_CASE("a power cut takes nothing that was flushed, and leaves no sector as it never was") {
  const uint64_t seed = from_environment("POWER_CUT_SEED", std::random_device()());
  const uint64_t count = from_environment("POWER_CUTS", 16);
  MESSAGE("POWER_CUT_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < count; ++i) {
    Crash crash;
    crash.seed = random();
    crash.threads = 1 + random() % 2;
    crash.has_base = random() % 2 == 0;
    crash.cuts_power = true;
    crash.record.die_at_sync = 1 + random() % 60;
    crash.record.die_after_record = random() % 2 == 0;
    CAPTURE(crash.seed);
    CAPTURE(crash.record.die_at_sync);
    CrashedVolume volume(crash);
    CHECK(volume.problem_after_cut(tree::Unsynced::kLost, 1) == "");
    CHECK(volume.problem_after_cut(tree::Unsynced::kKept, 1) == "");
    for (uint64_t cut = 0; cut < 3; ++cut) {
      const uint64_t cut_seed = random();
      CAPTURE(cut_seed);
      CHECK(volume.problem_after_cut(tree::Unsynced::kRandom, cut_seed) == "");
    }
  }
}

TEST_CASE("a power cut, or a kill, among checkpoints") {
  const uint64_t seed = from_environment("POWER_CUT_SEED", std::random_device()());
  const uint64_t count = from_environment("POWER_CUTS", 16) / 4;
  MESSAGE("POWER_CUT_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < count; ++i) {
    Crash crash;
    crash.seed = random();
    crash.threads = 1 + random() % 2;
    crash.has_base = random() % 2 == 0;
    crash.churns = true;
    crash.operations = 24;
    crash.cuts_power = i % 4 != 0;
    if (crash.cuts_power) {
      crash.record.die_at_sync = 1 + random() % 60;
      crash.record.die_after_record = random() % 2 == 0;
    } else {
      crash.die_at_step = 1 + random() % 150000;
    }
    CAPTURE(crash.seed);
    CAPTURE(crash.record.die_at_sync);
    CAPTURE(crash.die_at_step);
    CrashedVolume volume(crash);
    if (!crash.cuts_power) {
      CHECK(volume.problem_after_kill() == "");
      continue;
    }
    CHECK(volume.problem_after_cut(tree::Unsynced::kLost, 1) == "");
    for (uint64_t cut = 0; cut < 3; ++cut) {
      CHECK(volume.problem_after_cut(tree::Unsynced::kRandom, random()) == "");
    }
  }
}

TEST_CASE("these power cuts find a volume whose syncs do nothing") {
  int found = 0;
  for (uint64_t i = 0; i < 12; ++i) {
    Crash crash;
    crash.seed = i;
    crash.has_base = true;
    crash.cuts_power = true;
    crash.record.ignored = tree::IgnoredSyncs::kFiles;
    CrashedVolume volume(crash);
    if (!volume.problem_after_cut(tree::Unsynced::kRandom, i).empty()) ++found;
  }
  CHECK(found > 6);
}

}  // namespace blobcache::volume
