// A directory whose file system hangs: who waits is told, and nothing is written where it must not
// be.
#include <doctest/doctest.h>
#include <unistd.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/dir_tree.h"
#include "store/tree/origin.h"
#include "test/net/dir_fixture.h"
#include "test/net/fixture.h"
#include "test/net/nbd_fixture.h"

namespace blobcache::net {
namespace {

/// A file system that can be told to hang: reads wait until it goes on.
class Hanging {
 public:
  [[nodiscard]] DirSystem system() {
    return {[] { return absl::Now() + absl::Minutes(1); },
            [shared = shared_](int fd, void* into, size_t bytes, off_t offset) {
              const auto goes_on = [&shared]()
                                       ABSL_NO_THREAD_SAFETY_ANALYSIS { return !shared->hangs; };
              {
                const absl::MutexLock lock(&shared->mutex);
                ++shared->inside;
                shared->mutex.Await(absl::Condition(&goes_on));
                --shared->inside;
              }
              return ::pread(fd, into, bytes, offset);
            }};
  }
  void hang(bool hangs) {
    const absl::MutexLock lock(&shared_->mutex);
    shared_->hangs = hangs;
  }
  void wait_inside(int reads) {
    const auto are_inside = [this, reads]()
                                ABSL_NO_THREAD_SAFETY_ANALYSIS { return shared_->inside == reads; };
    const absl::MutexLock lock(&shared_->mutex);
    REQUIRE(shared_->mutex.AwaitWithTimeout(absl::Condition(&are_inside), absl::Seconds(60)));
  }
  ~Hanging() { hang(false); }

 private:
  struct Shared {
    absl::Mutex mutex;
    bool hangs = false;
    int inside = 0;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

TEST_CASE("dir: a read that hangs is told in time, and writes nowhere when it comes back") {
  Hanging system;
  const DirWorld world;
  world.write("x", random_bytes(kMib, 1));
  DirOriginOptions options = world.options();
  options.reads = 1;
  options.request_timeout = absl::Milliseconds(200);
  DirTree origin(options, system.system());
  const tree::OriginFile file = value_of(origin.open("x"));
  system.hang(true);
  Bytes into(8192, std::byte{0xEE});
  const Bytes untouched = into;
  CHECK(fetch(*file.version.source, 0, absl::MakeSpan(into)).code() ==
        absl::StatusCode::kDeadlineExceeded);
  CHECK_FALSE(origin.health().reachable);
  // With no thread left nobody waits for one.
  CHECK(fetch(*file.version.source, 0, 10).status().code() == absl::StatusCode::kUnavailable);
  // Names are asked for by others, which do not hang here.
  CHECK(value_of(origin.look_up("x")).size_bytes == kMib);
  system.hang(false);
  system.wait_inside(0);
  const absl::Time end = absl::Now() + absl::Seconds(60);
  while (!fetch(*file.version.source, 0, 10).ok() && absl::Now() < end) {
  }
  CHECK(value_of(fetch(*file.version.source, 0, 8192)) == Bytes(random_bytes(8192, 1)));
  CHECK(into == untouched);
  CHECK(origin.health().reachable);
}

TEST_CASE("dir: a cancelled read ends at once, waiting or under way, and leaves the others alone") {
  Hanging system;
  const DirWorld world;
  const Bytes content = random_bytes(kMib, 1);
  world.write("x", content);
  DirOriginOptions options = world.options();
  options.reads = 1;
  DirTree origin(options, system.system());
  const tree::OriginFile file = value_of(origin.open("x"));
  system.hang(true);
  Bytes first(4096);
  Bytes second(4096);
  Bytes third(4096);
  const Answer one;
  const Answer two;
  const Answer three;
  page::Source& source = *file.version.source;
  const auto running = source.fetch(0, absl::MakeSpan(first), Answer(one).done());
  system.wait_inside(1);
  const auto waiting = source.fetch(4096, absl::MakeSpan(second), Answer(two).done());
  const auto other = source.fetch(8192, absl::MakeSpan(third), Answer(three).done());
  waiting->cancel();
  CHECK(absl::IsCancelled(two.wait()));
  running->cancel();
  CHECK(absl::IsCancelled(one.wait()));
  running->cancel();
  CHECK_FALSE(three.there());
  system.hang(false);
  require_ok(three.wait());
  CHECK(third == Bytes(content.begin() + 8192, content.begin() + 12288));
  other->cancel();
}

TEST_CASE("dir: when the daemon ends nobody waits for what hangs") {
  Hanging system;
  const DirWorld world;
  world.write("x", random_bytes(kMib, 1));
  auto origin = std::make_unique<DirTree>(world.options(), system.system());
  tree::OriginFile file = value_of(origin->open("x"));
  system.hang(true);
  Bytes into(4096);
  const Answer answer;
  const auto read = file.version.source->fetch(0, absl::MakeSpan(into), Answer(answer).done());
  system.wait_inside(1);
  origin->stop();
  CHECK(absl::IsCancelled(origin->look_up("x").status()));
  CHECK(absl::IsCancelled(origin->list("").status()));
  CHECK(absl::IsCancelled(origin->open("x").status()));
  CHECK(absl::IsUnavailable(answer.wait()));
  CHECK(absl::IsUnavailable(fetch(*file.version.source, 0, 10).status()));
  origin.reset();
  CHECK(absl::IsUnavailable(fetch(*file.version.source, 0, 10).status()));
  file.version.source.reset();
  // The thread still has what it needs.
  system.hang(false);
  system.wait_inside(0);
}

}  // namespace
}  // namespace blobcache::net
