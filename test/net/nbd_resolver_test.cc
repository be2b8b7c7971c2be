// Names of servers are looked up where nobody waits for them.
#include "net/impl/nbd_resolver.h"

#include <doctest/doctest.h>
#include <poll.h>

#include <cstddef>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/nbd_url.h"
#include "net/impl/nbd_tree.h"
#include "net/nbd_origin.h"
#include "store/tree/origin.h"
#include "test/net/fixture.h"
#include "test/net/nbd_fixture.h"

namespace blobcache::net {
namespace {

using absl::StatusCode;
using Addresses = NbdResolver::Addresses;
using Remembered = NbdResolver::Remembered;

/// What a name server may do. Thread-safe; its look-up outlives it.
class NameServer {
 public:
  NameServer() = default;
  ~NameServer() { release(); }
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  [[nodiscard]] NbdResolver::LookUp look_up() {
    return [shared = shared_](const std::string&) -> absl::StatusOr<Addresses> {
      const absl::MutexLock lock(&shared->mutex);
      ++shared->asked;
      shared->mutex.Await(absl::Condition(&shared->answers));
      return shared->answer;
    };
  }
  void hang() {
    const absl::MutexLock lock(&shared_->mutex);
    shared_->answers = false;
  }
  void release() {
    const absl::MutexLock lock(&shared_->mutex);
    shared_->answers = true;
  }
  void set(absl::StatusOr<Addresses> answer) {
    const absl::MutexLock lock(&shared_->mutex);
    shared_->answer = std::move(answer);
  }
  [[nodiscard]] int asked() const {
    const absl::MutexLock lock(&shared_->mutex);
    return shared_->asked;
  }

 private:
  struct Shared {
    absl::Mutex mutex;
    bool answers ABSL_GUARDED_BY(mutex) = true;
    int asked ABSL_GUARDED_BY(mutex) = 0;
    absl::StatusOr<Addresses> answer ABSL_GUARDED_BY(mutex) = Addresses{"127.0.0.1"};
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

absl::StatusOr<Addresses> answer_of(NbdResolver::Question& question) {
  const absl::Time limit = absl::Now() + absl::Seconds(60);
  while (absl::Now() < limit) {
    if (const auto answer = question.answer()) return *answer;
    pollfd fd{question.fd(), POLLIN, 0};
    (void)::poll(&fd, 1, 1000);
  }
  return absl::DeadlineExceededError("no answer");
}

TEST_CASE("a lookup is shared, its answer remembered, and what did not answer tried last") {
  NameServer names;
  names.set(Addresses{"::1", "127.0.0.1"});
  names.hang();
  NbdResolver resolver("host", names.look_up());
  const auto first = resolver.ask(Remembered::kUse);
  const auto second = resolver.ask(Remembered::kIgnore);
  CHECK_FALSE(first->answer());
  names.release();
  CHECK(value_of(answer_of(*first)) == Addresses{"::1", "127.0.0.1"});
  CHECK(value_of(answer_of(*second)).size() == 2);
  CHECK(names.asked() == 1);
  resolver.unreachable("::1");
  CHECK(value_of(answer_of(*resolver.ask(Remembered::kUse))) == Addresses{"127.0.0.1", "::1"});
  names.set(absl::UnavailableError("no such name"));
  CHECK(value_of(answer_of(*resolver.ask(Remembered::kUse))).size() == 2);
  CHECK_FALSE(answer_of(*resolver.ask(Remembered::kIgnore)).ok());
  names.hang();
  const auto waits = resolver.ask(Remembered::kIgnore);
  CHECK(value_of(answer_of(*resolver.ask(Remembered::kUse))).size() == 2);
  CHECK_FALSE(waits->answer());
}

TEST_CASE("a resolver and its questions end while a lookup hangs, either first") {
  NameServer names;
  names.hang();
  std::unique_ptr<NbdResolver::Question> question;
  {
    NbdResolver resolver("host", names.look_up());
    (void)resolver.ask(Remembered::kUse);
    question = resolver.ask(Remembered::kUse);
  }
  CHECK_FALSE(question->answer());
  names.release();
  CHECK(value_of(answer_of(*question)).size() == 1);
}

TEST_CASE("addresses are told from names, and localhost has one") {
  for (const char* address : {"127.0.0.1", "::1", "2001:db8::7"}) {
    CHECK(NbdResolver::is_address(address));
  }
  CHECK_FALSE(NbdResolver::is_address("localhost"));
  CHECK_FALSE(NbdResolver::is_address("a.example"));
  CHECK_FALSE(value_of(NbdResolver::look_up_addresses("localhost")).empty());
}

/// An origin of a real server, whose host's name `names` knows.
struct NamedWorld : NbdWorld {
  explicit NamedWorld(absl::Duration patience) : timeout(patience) {
    port = server.nbdkit_tcp({"memory", "1M"});
  }
  [[nodiscard]] std::shared_ptr<NbdTree> named(const std::string& scheme = "nbd",
                                               const std::string& psk = "") {
    NbdOriginOptions named = options("");
    named.url = scheme + "host.invalid:" + std::to_string(port) + "/";
    named.connect_timeout = timeout;
    named.tls_psk = psk;
    return std::make_shared<NbdTree>(named, value_of(base::parse_nbd_url(named.url)),
                                     names.look_up());
  }

  const absl::Duration timeout;
  NameServer names;
  int port = 0;
};

TEST_CASE("who asks for what is behind a name that hangs gives up in time, and nothing is joined") {
  NEEDS(kHaveNbdkit)
  NamedWorld world(absl::Milliseconds(300));
  world.names.hang();
  const absl::Time begun = absl::Now();
  {
    const auto origin = world.named("nbd://");
    const absl::Status looked_up = origin->look_up("x").status();
    CHECK(looked_up.code() == StatusCode::kUnavailable);
    CHECK(looked_up.message().find("name is still being looked up") != absl::string_view::npos);
    CHECK(origin->open("x").status().code() == StatusCode::kUnavailable);
    CHECK(world.names.asked() == 1);
  }
  CHECK(absl::Now() - begun < absl::Seconds(20));  // of a machine that is busy
}

TEST_CASE("a server is reached at the address remembered while its name is looked up again") {
  NEEDS(kHaveNbdkit)
  NamedWorld world(absl::Seconds(60));
  // Nobody listens at the first; the second is tried after it.
  world.names.set(Addresses{"127.0.0.2", "127.0.0.1"});
  const auto origin = world.named("nbd://");
  const tree::OriginFile file = value_of(origin->open("x"));
  world.names.hang();
  CHECK(value_of(origin->look_up("y")).size_bytes == kMib);
  // Many at once want further connections.
  std::vector<Answer> answers(200);
  Bytes bytes(answers.size() * 4096);
  std::vector<std::unique_ptr<page::Source::Fetch>> fetches;
  for (size_t i = 0; i < answers.size(); ++i) {
    fetches.push_back(file.version.source->fetch(
        i * 4096, absl::MakeSpan(bytes).subspan(i * 4096, 4096), answers[i].done()));
  }
  for (const Answer& answer : answers) CHECK(answer.wait().ok());
}

TEST_CASE("the end of the daemon is not held up by a name, with TLS or without") {
  NEEDS(kHaveNbdkit)
  NamedWorld world(absl::Minutes(10));
  world.names.hang();
  const std::string keys = (world.dir.path() / "keys").string();
  std::ofstream(keys) << "me:00112233445566778899aabbccddeeff\n";
  for (const bool tls : {false, true}) {
    const auto origin = tls ? world.named("nbds://me@", keys) : world.named("nbd://");
    absl::Status looked;
    absl::Status opened;
    std::thread looks([&] { looked = origin->look_up("x").status(); });
    std::thread opens([&] { opened = origin->open("x").status(); });
    absl::SleepFor(absl::Milliseconds(100));
    origin->stop();
    looks.join();
    opens.join();
    CHECK(looked.code() == StatusCode::kCancelled);
    CHECK(opened.code() == StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace blobcache::net
