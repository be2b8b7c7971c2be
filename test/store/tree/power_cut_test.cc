// Power cuts: a store under load is killed with its syncs recorded; of what was not synced some,
// all or nothing is left, and the store that is opened on it must have everything that was
// answered, and nothing by halves.
//
// Environment: POWER_CUTS, how many (32); POWER_CUT_SEED, to see the same ones again.

#include "test/store/tree/power_cut.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdlib>
#include <random>
#include <set>

#include "absl/time/clock.h"
#include "test/store/tree/crash_load.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;
using Problems = std::vector<std::string>;

uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

size_t count_files(const fs::path& path) {
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    // Where the file system has no attributes each blob has one of these, too.
    if (entry.is_regular_file() && entry.path().extension() != ".names") ++files;
  }
  return files;
}

/// Opens a store and compares all of it with what it may be.
class Inspection {
 public:
  Inspection(const fs::path& path, const Answers& answers) : path_(path), answers_(answers) {
    inspect();
  }
  Inspection(const Inspection&) = delete;
  Inspection& operator=(const Inspection&) = delete;

  [[nodiscard]] const Problems& problems() const { return problems_; }
  /// What is there.
  [[nodiscard]] const StoreModel& found() const { return found_; }

 private:
  void inspect() {
    if (!open()) return;
    if (count_files(path_ / "tmp") > 0) problems_.emplace_back("temporary files are left");
    inspect_blobs();
    inspect_names();
    // What is lost has no files to wait for.
    if (problems_.empty()) inspect_accounts();
  }

  /// Ends what is open, as it should end, and starts anew. False, with a problem, when that fails.
  bool open() {
    names_ = nullptr;
    store_ = nullptr;
    page::PageStoreOptions options;
    options.path = path_;
    options.memory_bytes = uint64_t{16} << 20;
    options.direct_io = page::DirectIo::kOff;
    absl::StatusOr<std::unique_ptr<page::PageStore>> store = page::PageStore::open(options);
    if (!store.ok()) {
      problem("the page store", store.status());
      return false;
    }
    store_ = *std::move(store);
    NamespaceOptions tree_options;
    tree_options.path = path_;
    absl::StatusOr<std::unique_ptr<Namespace>> names = Namespace::open(tree_options, *store_);
    if (!names.ok()) {
      problem("the catalog", names.status());
      return false;
    }
    names_ = *std::move(names);
    return true;
  }

  absl::Status collect() {
    class Anything final : public GarbageWatcher {
     public:
      bool wants_more() override { return true; }
      void on_garbage(const Garbage& /*garbage*/) override {}
    };
    Anything watcher;
    return names_->collect_garbage({}, watcher);
  }

  void problem(std::string_view what, const absl::Status& status) {
    problems_.push_back(fmt::format("{}: {}", what, base::message(status)));
  }

  absl::StatusOr<std::vector<NamedNode>> list(std::string_view path) {
    std::vector<NamedNode> all;
    const absl::StatusOr<Node> directory = names_->resolve(path);
    if (absl::IsNotFound(directory.status())) return all;
    BLOBCACHE_RETURN_IF_ERROR(directory.status());
    for (uint64_t cookie = 0;;) {
      BLOBCACHE_ASSIGN_OR_RETURN(std::vector<NamedNode> some,
                                 names_->list(directory->id, cookie, 100));
      if (some.empty()) return all;
      cookie = some.back().cookie;
      std::move(some.begin(), some.end(), std::back_inserter(all));
    }
  }

  std::vector<NamedNode> list_or_problem(std::string_view path) {
    absl::StatusOr<std::vector<NamedNode>> entries = list(path);
    if (entries.ok()) return *std::move(entries);
    problem(path, entries.status());
    return {};
  }

  void inspect_blobs() {
    std::map<std::string, Content> known = answers_.done.blobs;
    std::map<std::string, Content> required = known;
    for (const Change& change : answers_.pending) {
      if (change.kind == "put") known.emplace(change.hex, change.content);
      if (change.kind == "forget") required.erase(change.hex);
    }
    for (const NamedNode& entry : list_or_problem("blobs")) {
      const auto content = known.find(entry.name);
      if (content == known.end()) {
        problems_.push_back(fmt::format("blobs/{}: nobody put it", entry.name));
        continue;
      }
      found_.blobs.insert(*content);
      read("blobs/" + entry.name, entry.node.id, entry.name);
    }
    for (const auto& [hex, content] : required) {
      if (found_.blobs.contains(hex)) continue;
      problems_.push_back(fmt::format("blobs/{}: lost, {} bytes", hex, content.size));
    }
  }

  void read(const std::string& path, NodeId node, const std::string& hex) {
    const absl::StatusOr<page::ObjectRef> object = names_->open(node);
    if (!object.ok()) return problem(path, object.status());
    const absl::StatusOr<std::string> content = TreeFixture::read_object(**object);
    if (!content.ok()) return problem(path, content.status());
    if (digest_of(*content).hex() != hex) problems_.push_back(path + ": other bytes than were put");
  }

  void inspect_names() {
    for (const NamedNode& directory : list_or_problem("files")) {
      const std::string path = "files/" + directory.name;
      for (const NamedNode& entry : list_or_problem(path)) {
        const std::string name = path + "/" + entry.name;
        const std::string hex = entry.node.digest ? entry.node.digest->hex() : "nothing";
        found_.names[name] = hex;
        read(name, entry.node.id, hex);
      }
    }
    std::set<std::string> all;
    for (const auto& [name, hex] : found_.names) all.insert(name);
    for (const auto& [name, hex] : answers_.done.names) all.insert(name);
    for (const std::string& name : all) inspect_name(name);
  }

  static std::string meaning(const StoreModel& model, const std::string& name) {
    const auto at = model.names.find(name);
    return at == model.names.end() ? "nothing" : at->second;
  }

  void inspect_name(const std::string& name) {
    const std::string is = meaning(found_, name);
    const std::string was = meaning(answers_.done, name);
    bool right = is == was;
    for (const Change& change : answers_.pending) {
      if (change.name != name) continue;
      StoreModel model = answers_.done;
      model.apply(change);
      right = right || is == meaning(model, name);
    }
    if (!right) problems_.push_back(fmt::format("{}: means {}, not {}", name, is, was));
  }

  /// Counts, and the files.
  void inspect_accounts() {
    const absl::StatusOr<Namespace::Counts> counts = names_->counts();
    if (!counts.ok()) return problem("counts", counts.status());
    if (counts->blobs != found_.blobs.size() || counts->names != found_.names.size()) {
      problems_.push_back(fmt::format("counts {} blobs and {} names, has {} and {}", counts->blobs,
                                      counts->names, found_.blobs.size(), found_.names.size()));
    }
    absl::Status collected = collect();
    // A log that was cut before its first commit, or within one, looks like one that was lost: then
    // what the catalog does not know stays, until a daemon has ended as it should.
    if (absl::IsDataLoss(collected)) {
      if (!open()) return;
      collected = collect();
    }
    if (!collected.ok()) return problem("collecting garbage", collected);
    size_t files = 0;
    for (const auto& [hex, content] : found_.blobs) files += content.size > 1 << 20 ? 2 : 1;
    const size_t there = count_files(path_ / "objects");
    if (there != files) problems_.push_back(fmt::format("{} files for {}", there, files));
  }

  const fs::path path_;
  const Answers& answers_;
  StoreModel found_;
  Problems problems_;
  std::unique_ptr<page::PageStore> store_;
  std::unique_ptr<Namespace> names_;
};

/// Stores that live from one power cut to the next.
class PowerCuts {
 public:
  static constexpr int kCutsARun = 4;

  PowerCuts(uint64_t seed, IgnoredSyncs ignored) : random_(seed), ignored_(ignored) {}

  /// Runs the load once, cuts its power in kCutsARun ways, and goes on with one of the stores; from
  /// time to time with a new one, since making a store can be cut short too.
  void run() {
    if (runs_++ % 4 == 0) begin_anew();
    const Answers answers = load();
    answered_ += answers.answered;
    if (!answers.killed) problems_.emplace_back("the load failed; stderr says why");
    const auto chosen = static_cast<int>(random_() % kCutsARun);
    StoreModel next;
    for (int i = 0; i < kCutsARun; ++i) {
      const Unsynced unsynced = i == 0   ? Unsynced::kLost
                                : i == 1 ? Unsynced::kKept
                                         : Unsynced::kRandom;
      const fs::path tree = directory_.path() / fmt::format("tree{}", i);
      cut_power({directory_.path() / "store", directory_.path() / "record", unsynced, random_()},
                tree);
      const Inspection inspection(tree, answers);
      for (const std::string& problem : inspection.problems()) {
        problems_.push_back(fmt::format("run {}, cut {}: {}", runs_, i, problem));
      }
      if (i == chosen) next = inspection.found();
    }
    clear();
    fs::rename(directory_.path() / fmt::format("tree{}", chosen), directory_.path() / "store");
    for (int i = 0; i < kCutsARun; ++i)
      fs::remove_all(directory_.path() / fmt::format("tree{}", i));
    model_ = std::move(next);
  }

  [[nodiscard]] const Problems& problems() const { return problems_; }
  [[nodiscard]] size_t answered() const { return answered_; }

 private:
  void clear() {
    fs::remove_all(directory_.path() / "store");
    fs::remove_all(directory_.path() / "record");
    fs::create_directory(directory_.path() / "record");
  }

  void begin_anew() {
    clear();
    fs::create_directory(directory_.path() / "store");
    model_ = {};
  }

  /// Ends at a sync, before or after it has done its work, or in the midst of things.
  Answers load() {
    LoadOptions options;
    options.record.store = directory_.path() / "store";
    options.record.record = directory_.path() / "record";
    options.record.ignored = ignored_;
    options.seed = random_();
    options.kill_after_answers = random_() % 60;
    options.kill_after_us = static_cast<int64_t>(random_() % 4000);
    if (random_() % 2 == 0) {
      options.record.die_at_sync = 1 + random_() % 80;
      options.record.die_after_record = random_() % 2 == 0;
      options.kill_after_answers = 1000;
    }
    return load_until_killed(model_, options);
  }

  std::mt19937_64 random_;
  const IgnoredSyncs ignored_;
  const TemporaryDirectory directory_;
  StoreModel model_;
  Problems problems_;
  int runs_ = 0;
  size_t answered_ = 0;
};

TEST_CASE("power cut: nothing that was answered is lost or changed, and nothing is half visible") {
  const uint64_t seed = from_environment("POWER_CUT_SEED", std::random_device()());
  const uint64_t count = from_environment("POWER_CUTS", 32);
  MESSAGE("POWER_CUT_SEED=" << seed);
  PowerCuts cuts(seed, IgnoredSyncs::kNone);
  for (uint64_t done = 0; done < count && cuts.problems().empty(); done += PowerCuts::kCutsARun) {
    cuts.run();
  }
  for (const std::string& problem : cuts.problems()) FAIL_CHECK(problem);
  MESSAGE(count << " power cuts, " << cuts.answered() << " changes answered");
  CHECK(cuts.answered() > 0);
}

TEST_CASE("power cut: the test finds what is lost when syncs do nothing") {
  constexpr int kMaxRuns = 20;
  for (const IgnoredSyncs ignored : {IgnoredSyncs::kFiles, IgnoredSyncs::kDirectories,
                                     IgnoredSyncs::kFileSystems, IgnoredSyncs::kAll}) {
    CAPTURE(static_cast<int>(ignored));
    PowerCuts cuts(1, ignored);
    for (int i = 0; i < kMaxRuns && cuts.problems().empty(); ++i) cuts.run();
    CHECK_FALSE(cuts.problems().empty());
    if (!cuts.problems().empty()) MESSAGE(cuts.problems().front());
  }
}

}  // namespace
}  // namespace blobcache::tree
