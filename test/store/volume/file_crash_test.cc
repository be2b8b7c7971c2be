// Kills and power cuts of file volumes, from their creation on; as crash_test.cc has it for images.
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
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "base/status.h"
#include "test/store/tree/power_cut.h"
#include "test/store/tree/sync_recorder.h"
#include "test/store/volume/file_load.h"
#include "test/store/volume/volume_fixture.h"
#include "test/temporary_directory.h"

namespace blobcache::volume {
namespace {

namespace fs = std::filesystem;

uint64_t number_from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// How far a child came; in memory that it shares with its parent.
struct FileProgress {
  std::atomic<bool> created{false};
  std::atomic<uint64_t> answered{0};
  std::atomic<bool> failed{false};
};

struct FileCrash {
  uint64_t seed = 0;
  bool has_base = false;
  bool in_folder = true;
  uint64_t most = 0;  ///< the file's length, at most
  uint64_t operations = 60;
  uint64_t die_at_step = 0;  ///< the system call before which it is killed; 0: none
  bool churns = false;       ///< so that checkpoints come while it runs
  bool cuts_power = false;
  tree::RecordOptions record;  ///< with `cuts_power`
};

/// One file volume that crashes.
class CrashedFile {
 public:
  explicit CrashedFile(const FileCrash& crash)
      : crash_(crash),
        memory_(::mmap(nullptr, sizeof(FileProgress), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
        progress_(::new(memory_) FileProgress()) {
    fs::create_directory(directory_.path() / "store");
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
    REQUIRE_FALSE(progress_->failed.load());
  }
  ~CrashedFile() { ::munmap(memory_, sizeof(FileProgress)); }
  CrashedFile(const CrashedFile&) = delete;
  CrashedFile& operator=(const CrashedFile&) = delete;

  [[nodiscard]] std::string problem_after_kill() {
    return problem(directory_.path() / "store", boot(1));
  }
  [[nodiscard]] std::string problem_after_cut(tree::Unsynced unsynced, uint64_t seed) {
    const fs::path left = directory_.path() / "left";
    fs::remove_all(left);
    tree::cut_power({directory_.path() / "store", directory_.path() / "record", unsynced, seed},
                    left);
    return problem(left, boot(2));
  }
  /// Whether a flush was answered.
  [[nodiscard]] bool flushed() { return expected().second; }

 private:
  static constexpr uint64_t kBase = 300001;

  [[nodiscard]] Bytes first_content() const {
    return crash_.has_base ? random_bytes(kBase, crash_.seed + 1) : Bytes();
  }
  /// The operation, or whether the run ends and begins again, after one that left `length` bytes.
  [[nodiscard]] std::pair<FileOp, bool> operation(uint64_t number, uint64_t length) const {
    std::mt19937_64 random(crash_.seed * 1000003 + number);
    random.discard(4);
    return {random_file_op(random, length, crash_.most), random() % 15 == 0};
  }

  [[nodiscard]] bool churns_after(uint64_t number) const {
    return crash_.churns && number % 4 == 3;
  }
  /// Fills a quarter of the journal with lengths that leave the file as it is.
  static absl::Status churn_length(Volume& volume) {
    const uint64_t length = volume.size_bytes();
    absl::Status status;
    for (int i = 0; i < 4096 && status.ok(); ++i) {
      status = volume.set_length_wait(length + 1);
      if (status.ok()) status = volume.set_length_wait(length);
    }
    return status;
  }

  void run_child() {
    Workers workers(3);
    std::unique_ptr<TestBase> base;
    if (crash_.has_base) {
      base = std::make_unique<TestBase>(first_content(), directory_.path() / "base");
    }
    if (crash_.cuts_power) {
      tree::RecordOptions record = crash_.record;
      record.store = directory_.path() / "store";
      record.record = directory_.path() / "record";
      tree::record_syncs(record);
    }
    VolumeOptions options = file_options(directory_.path() / "store", workers, base.get(), boot(1));
    std::atomic<uint64_t> steps{0};
    if (crash_.die_at_step != 0) {
      options.disk_fault = [&](const page::DiskStep& /*step*/) {
        if (++steps == crash_.die_at_step) ::raise(SIGKILL);
        return 0;
      };
    }
    auto volume = Volume::create_file(options, crash_.has_base ? kBase : 0);
    if (!volume.ok()) ::_exit(1);
    progress_->created.store(true);
    for (uint64_t i = 0; i < crash_.operations; ++i) {
      const auto [op, restarts] = operation(i, (*volume)->size_bytes());
      absl::Status status;
      if (churns_after(i)) status = churn_length(**volume);
      if (status.ok()) status = run_file_op(**volume, op);
      if (status.ok() && restarts) {
        status = (*volume)->close();
        if (status.ok()) volume = Volume::open(options);
        status.Update(volume.status());
      }
      if (!status.ok()) {
        progress_->failed.store(true);
        break;
      }
      ++progress_->answered;
    }
    ::raise(SIGKILL);
  }

  [[nodiscard]] VolumeOptions file_options(const fs::path& store, Workers& workers, TestBase* base,
                                           const BootId& boot_id) const {
    VolumeOptions options;
    options.path = store / "volume";
    options.in_folder = crash_.in_folder;
    options.workers = &workers;
    options.boot_id = boot_id;
    options.cached_blocks = VolumeOptions::kMinCachedBlocks;
    if (base != nullptr) options.base = base->object();
    return options;
  }

  /// What the file may be, and whether it must be there after a power cut.
  [[nodiscard]] std::pair<FileVersions, bool> expected() const {
    FileVersions versions(first_content());
    bool durable = false;
    const uint64_t answered = progress_->answered.load();
    for (uint64_t i = 0; i <= answered && i < crash_.operations; ++i) {
      const auto [op, restarts] = operation(i, versions.last().size());
      Bytes content = versions.last();
      if (churns_after(i)) {
        content.push_back(std::byte{0});
        versions.add(content, false);
        content.pop_back();
        versions.add(content, false);
      }
      apply_file_op(op, content);
      // A write of more than an extent goes by steps, and a checkpoint that came between two of
      // them is what a power cut leaves, if nothing was flushed since.
      const bool has_steps = crash_.churns && crash_.cuts_power &&
                             op.kind != FileOp::Kind::kSetLength && op.kind != FileOp::Kind::kFlush;
      versions.add(std::move(content), i == answered || has_steps);
      if (i == answered) break;
      const bool flushes = op.kind == FileOp::Kind::kFlush || restarts;
      durable = durable || flushes;
      if (flushes || !crash_.cuts_power) versions.settle();
    }
    return {versions, durable};
  }

  [[nodiscard]] std::string problem(const fs::path& store, const BootId& boot_id) const {
    const auto [versions, durable] = expected();
    Workers workers(2);
    std::unique_ptr<TestBase> base;
    if (crash_.has_base) base = std::make_unique<TestBase>(first_content());
    const VolumeOptions options = file_options(store, workers, base.get(), boot_id);
    const bool must_be_there = crash_.cuts_power ? durable : progress_->created.load();
    Bytes content;
    if (absl::Status status = look_at(options, content); !status.ok()) {
      const bool may_be = absl::IsNotFound(status) || absl::IsDataLoss(status);
      return may_be && !must_be_there ? ""
                                      : "cannot be read: " + std::string(base::message(status));
    }
    if (std::string wrong = versions.problem(content); !wrong.empty()) return wrong;
    // What a recovery leaves is as good as what it made of it.
    Bytes again;
    VolumeOptions later = options;
    later.boot_id = boot(99);
    if (!look_at(later, again).ok() || again != content) return "another cut changes it";
    return "";
  }

  /// Reads all, and sees that what is beyond the end is zeros.
  static absl::Status look_at(const VolumeOptions& options, Bytes& content) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::shared_ptr<Volume> volume, Volume::open(options));
    content.resize(volume->size_bytes());
    BLOBCACHE_RETURN_IF_ERROR(volume->read_wait(0, absl::MakeSpan(content)));
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<Run> runs,
                               volume->map_wait(0, content.size(), 100000));
    uint64_t mapped = 0;
    for (const Run& run : runs) {
      if (run.kind == Run::Kind::kData) mapped += (run.length_bytes + kPage - 1) / kPage * kPage;
    }
    if (mapped != volume->stats().data_bytes) return absl::InternalError("counts its pages wrong");
    BLOBCACHE_RETURN_IF_ERROR(volume->set_length_wait(content.size() + 100000));
    Bytes beyond(100000);
    BLOBCACHE_RETURN_IF_ERROR(volume->read_wait(content.size(), absl::MakeSpan(beyond)));
    if (beyond != Bytes(100000)) return absl::InternalError("something is beyond the end");
    BLOBCACHE_RETURN_IF_ERROR(volume->set_length_wait(content.size()));
    return volume->close();
  }

  const FileCrash crash_;
  void* const memory_;
  FileProgress* const progress_;
  const test::TemporaryDirectory directory_;
};

FileCrash random_file_crash(std::mt19937_64& random) {
  constexpr uint64_t kMost[] = {20000, 700000, kBlockBytes + 600000};
  FileCrash crash;
  crash.seed = random();
  crash.has_base = random() % 2 == 0;
  crash.in_folder = random() % 2 == 0;
  crash.most = kMost[random() % 3];
  return crash;
}

}  // namespace

TEST_CASE("a kill between any two system calls takes nothing of a file that was answered") {
  const uint64_t seed = number_from_environment("POWER_CUT_SEED", std::random_device()());
  const uint64_t count = 2 * number_from_environment("POWER_CUTS", 16);
  MESSAGE("POWER_CUT_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < count; ++i) {
    FileCrash crash = random_file_crash(random);
    crash.die_at_step = 1 + random() % (i % 4 == 0 ? 20 : 300);
    CAPTURE(crash.seed);
    CAPTURE(crash.most);
    CAPTURE(crash.die_at_step);
    CrashedFile file(crash);
    CHECK(file.problem_after_kill() == "");
  }
}

TEST_CASE(
    "a power cut takes nothing of a file that was flushed, and shows nothing that never was") {
  const uint64_t seed = number_from_environment("POWER_CUT_SEED", std::random_device()());
  const uint64_t count = 2 * number_from_environment("POWER_CUTS", 16);
  MESSAGE("POWER_CUT_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < count; ++i) {
    FileCrash crash = random_file_crash(random);
    crash.cuts_power = true;
    crash.record.die_at_sync = 1 + random() % 30;
    crash.record.die_after_record = random() % 2 == 0;
    CAPTURE(crash.seed);
    CAPTURE(crash.most);
    CAPTURE(crash.record.die_at_sync);
    CAPTURE(crash.record.die_after_record);
    CrashedFile file(crash);
    CHECK(file.problem_after_cut(tree::Unsynced::kLost, 1) == "");
    CHECK(file.problem_after_cut(tree::Unsynced::kKept, 1) == "");
    for (uint64_t cut = 0; cut < 3; ++cut) {
      const uint64_t cut_seed = random();
      CAPTURE(cut_seed);
      CHECK(file.problem_after_cut(tree::Unsynced::kRandom, cut_seed) == "");
    }
  }
}

TEST_CASE("a power cut, or a kill, of a file among checkpoints") {
  const uint64_t seed = number_from_environment("POWER_CUT_SEED", std::random_device()());
  const uint64_t count = number_from_environment("POWER_CUTS", 16) / 2;
  MESSAGE("POWER_CUT_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < count; ++i) {
    FileCrash crash = random_file_crash(random);
    crash.churns = true;
    crash.operations = 24;
    crash.cuts_power = i % 2 == 0;
    if (crash.cuts_power) {
      crash.record.die_at_sync = 1 + random() % 40;
      crash.record.die_after_record = random() % 2 == 0;
    } else {
      crash.die_at_step = 1 + random() % 60000;
    }
    CAPTURE(crash.seed);
    CAPTURE(crash.most);
    CAPTURE(crash.die_at_step);
    CAPTURE(crash.record.die_at_sync);
    CrashedFile file(crash);
    if (!crash.cuts_power) {
      CHECK(file.problem_after_kill() == "");
      continue;
    }
    CHECK(file.problem_after_cut(tree::Unsynced::kLost, 1) == "");
    for (uint64_t cut = 0; cut < 3; ++cut) {
      CHECK(file.problem_after_cut(tree::Unsynced::kRandom, random()) == "");
    }
  }
}

TEST_CASE("a checkpoint between two steps of a write leaves a part of it after a power cut") {
  FileCrash crash;
  crash.seed = 8118869029581738926;
  crash.most = kBlockBytes + 600000;
  crash.churns = true;
  crash.operations = 24;
  crash.cuts_power = true;
  crash.record.die_at_sync = 30;
  for (const bool has_base : {false, true}) {
    for (const bool in_folder : {false, true}) {
      crash.has_base = has_base;
      crash.in_folder = in_folder;
      CrashedFile file(crash);
      CHECK(file.problem_after_cut(tree::Unsynced::kLost, 1) == "");
      CHECK(file.problem_after_cut(tree::Unsynced::kRandom, 1) == "");
    }
  }
}

TEST_CASE("these power cuts find a file whose syncs do nothing") {
  int found = 0;
  int looked = 0;
  for (uint64_t i = 0; i < 12; ++i) {
    std::mt19937_64 random(i);
    FileCrash crash = random_file_crash(random);
    crash.cuts_power = true;
    crash.record.ignored = tree::IgnoredSyncs::kAll;
    CrashedFile file(crash);
    if (!file.flushed()) continue;
    ++looked;
    if (!file.problem_after_cut(tree::Unsynced::kRandom, i).empty()) ++found;
  }
  CHECK(looked > 6);
  CHECK(found > looked / 2);
}

}  // namespace blobcache::volume
