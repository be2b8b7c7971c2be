#include "test/store/tree/crash_load.h"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <memory>
#include <random>
#include <sstream>
#include <thread>

#include "absl/time/clock.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr uint32_t kThreads = 4;
constexpr size_t kNames = 6;
constexpr size_t kMaxUnnamed = 6;

/// One client. Its names and blobs are no other's, so that it always knows what is there.
class Client {
 public:
  Client(Namespace& names, const StoreModel& model, uint32_t number, uint64_t seed, int out)
      : names_(names), number_(number), out_(out), random_(seed * kThreads + number) {
    const std::string mine = fmt::format("files/t{}/", number);
    for (const auto& [name, hex] : model.names) {
      if (name.starts_with(mine)) model_.names.emplace(name, hex);
    }
    for (const auto& [hex, content] : model.blobs) {
      if (content.seed % kThreads == number) model_.blobs.emplace(hex, content);
    }
  }

  [[noreturn]] void run() {
    for (;;) {
      const Change change = next();
      say(fmt::format("begin {} {} {} {} {} {}\n", number_, change.kind, change.name, change.hex,
                      change.content.size, change.content.seed));
      const absl::Status status = make(change);
      if (!status.ok()) {
        std::fputs(
            fmt::format("{} {}: {}\n", change.kind, change.name, base::message(status)).c_str(),
            stderr);
        ::_exit(3);
      }
      say(fmt::format("done {}\n", number_));
      model_.apply(change);
    }
  }

 private:
  size_t below(size_t bound) { return random_() % bound; }

  std::string any_name() { return fmt::format("files/t{}/n{}", number_, below(kNames)); }

  /// An element of a map that is not empty.
  template <typename Map>
  const auto& any_of(const Map& map) {
    return *std::next(map.begin(), static_cast<std::ptrdiff_t>(below(map.size())));
  }

  std::vector<std::string> unnamed() const {
    std::vector<std::string> found;
    for (const auto& [hex, content] : model_.blobs) {
      const bool named = std::any_of(model_.names.begin(), model_.names.end(),
                                     [&](const auto& name) { return name.second == hex; });
      if (!named) found.push_back(hex);
    }
    return found;
  }

  Change next() {
    const std::vector<std::string> free = unnamed();
    const size_t throw_of_100 = below(100);
    if (free.size() > kMaxUnnamed || (!free.empty() && throw_of_100 < 10)) {
      return {.kind = "forget", .name = "-", .hex = free[below(free.size())], .content = {}};
    }
    if (!model_.names.empty() && throw_of_100 < 20) {
      return {.kind = "rm", .name = any_of(model_.names).first, .hex = "-", .content = {}};
    }
    if (!model_.blobs.empty() && throw_of_100 < 25) {
      return {.kind = "bind", .name = any_name(), .hex = any_of(model_.blobs).first, .content = {}};
    }
    const bool again = !model_.blobs.empty() && throw_of_100 < 40;
    const Content content = again ? any_of(model_.blobs).second : new_content();
    const std::string key = digest_of(content_of(content.size, content.seed)).hex();
    return {
        .kind = "put", .name = below(5) == 0 ? "-" : any_name(), .hex = key, .content = content};
  }

  /// Sizes on both sides of a page, of an extent and of the inline map.
  Content new_content() {
    constexpr std::array<size_t, 4> kMost = {4096, 40'000, 300'000, (1 << 20) + 500'000};
    const size_t kind = below(8);
    const size_t size = 1 + below(kMost[kind < 4 ? 0 : kind < 6 ? 1 : kind - 4]);
    const auto seed = static_cast<uint32_t>(random_());
    return {size, seed - seed % kThreads + number_};
  }

  absl::Status make(const Change& change) {
    if (change.kind == "rm") return names_.remove(change.name);
    if (change.kind == "forget") return names_.remove("blobs/" + change.hex);
    if (change.kind == "bind") {
      BLOBCACHE_ASSIGN_OR_RETURN(const page::ObjectKey key, parse_digest(change.hex));
      return names_.bind(change.name, key, Creator{}).status();
    }
    const std::string content = content_of(change.content.size, change.content.seed);
    BLOBCACHE_ASSIGN_OR_RETURN(
        const std::unique_ptr<BlobWriter> writer,
        names_.put(change.name == "-" ? "" : change.name, Creator{}, content.size()));
    BLOBCACHE_RETURN_IF_ERROR(writer->append(bytes_of(content)));
    return writer->commit().status();
  }

  /// A line is shorter than what a pipe takes in one piece.
  void say(const std::string& line) const {
    if (::write(out_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(4);
  }

  Namespace& names_;
  const uint32_t number_;
  const int out_;
  std::mt19937_64 random_;
  StoreModel model_;
};

[[noreturn]] void run_child(const StoreModel& model, const LoadOptions& options, int out) {
  record_syncs(options.record);
  constexpr std::string_view kRecording = "recording\n";
  if (::write(out, kRecording.data(), kRecording.size()) < 0) ::_exit(4);
  page::PageStoreOptions page_options;
  page_options.path = options.record.store;
  page_options.memory_bytes = uint64_t{16} << 20;
  page_options.direct_io = page::DirectIo::kOff;  // nothing waits for a real disk
  const auto store = page::PageStore::open(page_options);
  NamespaceOptions tree_options;
  tree_options.path = options.record.store;
  const auto names = store.ok() ? Namespace::open(tree_options, **store) : store.status();
  if (!names.ok()) {
    std::fputs(fmt::format("{}\n", base::message(names.status())).c_str(), stderr);
    ::_exit(2);
  }
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { Client(**names, model, i, options.seed, out).run(); });
  }
  for (;;) ::pause();
}

/// Reads what the child says, and keeps the account.
class Listener {
 public:
  explicit Listener(const StoreModel& model) { answers_.done = model; }

  void line(const std::string& text) {
    std::istringstream words(text);
    std::string what;
    uint32_t number = 0;
    words >> what >> number;
    recording_ = recording_ || what == "recording";
    if (what == "begin") {
      Change& change = pending_[number];
      words >> change.kind >> change.name >> change.hex >> change.content.size >>
          change.content.seed;
    } else if (what == "done") {
      answers_.done.apply(pending_[number]);
      pending_.erase(number);
      ++answers_.answered;
    }
  }

  [[nodiscard]] bool has_answered(uint64_t count) const {
    return recording_ && answers_.answered >= count;
  }

  [[nodiscard]] Answers finish(bool killed) {
    for (const auto& [number, change] : pending_) answers_.pending.push_back(change);
    answers_.killed = killed;
    return std::move(answers_);
  }

 private:
  Answers answers_;
  std::map<uint32_t, Change> pending_;
  bool recording_ = false;
};

}  // namespace

void StoreModel::apply(const Change& change) {
  if (change.kind == "put") blobs[change.hex] = change.content;
  if (change.kind == "rm") names.erase(change.name);
  if (change.kind == "forget") blobs.erase(change.hex);
  if ((change.kind == "put" || change.kind == "bind") && change.name != "-") {
    names[change.name] = change.hex;
  }
}

Answers load_until_killed(const StoreModel& model, const LoadOptions& options) {
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) run_child(model, options, pipe[1]);
  ::close(pipe[1]);
  Listener listener(model);
  std::string text;
  std::array<char, 4096> piece{};
  bool killed = false;
  for (;;) {
    const ssize_t length = ::read(pipe[0], piece.data(), piece.size());
    if (length <= 0) break;
    text.append(piece.data(), static_cast<size_t>(length));
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
      listener.line(text.substr(0, end));
      text.erase(0, end + 1);
    }
    if (killed || !listener.has_answered(options.kill_after_answers)) continue;
    absl::SleepFor(absl::Microseconds(options.kill_after_us));  // into the midst of some step
    ::kill(child, SIGKILL);
    killed = true;
  }
  ::close(pipe[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return listener.finish(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

}  // namespace blobcache::tree
