#include <doctest/doctest.h>

#include <thread>

#include "fusefs/impl/log_limit.h"
#include "fusefs/impl/open_files.h"
#include "fusefs/impl/pending_reads.h"

namespace blobcache::fusefs {
namespace {

OpenFile file_of(tree::NodeId node) {
  OpenFile out;
  out.node.id = node;
  return out;
}

TEST_CASE("fusefs open files: a handle finds its file until it is closed") {
  OpenFiles files;
  const uint64_t first = files.add(file_of(10));
  const uint64_t second = files.add(file_of(10));
  CHECK(first != second);
  CHECK(first != 0);
  CHECK(files.size() == 2);
  CHECK(OpenFiles::file(second).node.id == 10);
  CHECK(files.find(10).has_value());
  CHECK_FALSE(files.find(11).has_value());
  files.remove(first);
  files.remove(first);
  CHECK(files.size() == 1);
  CHECK(files.find(10).has_value());
  files.clear();
  CHECK(files.size() == 0);
  CHECK_FALSE(files.find(10).has_value());
}

TEST_CASE("fusefs pending reads: why a read ended") {
  PendingReads reads;
  const uint64_t quiet = reads.begin();
  const uint64_t interrupted = reads.begin();
  CHECK(reads.size() == 2);
  reads.interrupt(interrupted);  // before the store was asked: only noted
  CHECK(reads.why(quiet) == PendingReads::Ended::kByItself);
  CHECK(reads.why(interrupted) == PendingReads::Ended::kInterrupted);
  reads.started(interrupted, page::PendingRead());
  reads.end(interrupted);
  reads.interrupt(interrupted);  // the process was told already
  reads.started(interrupted, page::PendingRead());
  CHECK(reads.size() == 1);
  reads.end(quiet);
  reads.cancel_all_and_wait();
}

TEST_CASE("fusefs pending reads: the end waits for the last answer") {
  PendingReads reads;
  const uint64_t id = reads.begin();
  std::thread answer([&] {
    while (reads.why(id) != PendingReads::Ended::kMountEnds) std::this_thread::yield();
    reads.started(id, page::PendingRead());
    reads.end(id);
  });
  reads.cancel_all_and_wait();
  CHECK(reads.size() == 0);
  answer.join();
}

TEST_CASE("fusefs log limit: one line a second, and how many were left out") {
  LogLimit limit;
  const LogLimit::Clock::time_point start{std::chrono::hours(1)};
  CHECK(limit.admit(start) == 0);
  CHECK_FALSE(limit.admit(start).has_value());
  CHECK_FALSE(limit.admit(start + std::chrono::milliseconds(999)).has_value());
  CHECK(limit.admit(start + std::chrono::seconds(1)) == 2);
  CHECK(limit.admit(start + std::chrono::seconds(5)) == 0);
}

}  // namespace
}  // namespace blobcache::fusefs
