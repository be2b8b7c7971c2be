#include <doctest/doctest.h>

#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "fusefs/impl/log_limit.h"
#include "fusefs/impl/open_files.h"
#include "fusefs/impl/own_changes.h"
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
  CHECK(files.file(second).node.id == 10);
  CHECK(files.find(10) != nullptr);
  CHECK(files.find(11) == nullptr);
  CHECK(files.nodes() == std::vector<tree::NodeId>{10});
  files.remove(first);
  files.remove(first);
  CHECK(files.size() == 1);
  CHECK(files.file(second).node.id == 10);
  CHECK(files.find(10) != nullptr);
  files.clear();
  CHECK(files.size() == 0);
  CHECK(files.find(10) == nullptr);
}

TEST_CASE("fusefs open files: a node is found until its last handle is closed") {
  OpenFiles files;
  const uint64_t first = files.add(file_of(10));
  const uint64_t other = files.add(file_of(11));
  const uint64_t last = files.add(file_of(10));
  files.remove(first);
  CHECK(files.find(10) != nullptr);
  files.remove(last);
  CHECK(files.find(10) == nullptr);
  CHECK(files.nodes() == std::vector<tree::NodeId>{11});
  files.remove(other);
  CHECK(files.nodes().empty());
}

TEST_CASE("fusefs open files: who may write is known") {
  OpenFiles files;
  OpenFile written = file_of(10);
  written.is_written = true;
  const uint64_t first = files.add(file_of(10));
  CHECK(files.written_nodes().empty());
  const uint64_t second = files.add(written);
  const uint64_t third = files.add(written);
  CHECK(files.written_nodes() == absl::flat_hash_set<tree::NodeId>{10});
  files.remove(second);
  files.remove(third);
  CHECK(files.written_nodes().empty());
  files.remove(first);
}

TEST_CASE("fusefs open files: handles are as in another table, and free ones are used again") {
  OpenFiles files;
  std::vector<uint64_t> handles;
  for (tree::NodeId id = 100; id < 1100; ++id) handles.push_back(files.add(file_of(id)));
  for (size_t i = 0; i < handles.size(); ++i) CHECK(files.file(handles[i]).node.id == 100 + i);
  for (size_t i = 0; i < handles.size(); i += 3) files.remove(handles[i]);
  OpenFiles next;
  for (const auto& [handle, file] : files.all()) CHECK(next.restore(handle, *file));
  CHECK(next.size() == files.size());
  for (size_t i = 1; i < handles.size(); i += 3) CHECK(next.file(handles[i]).node.id == 100 + i);
  CHECK_FALSE(next.restore(1, file_of(5)));
  CHECK_FALSE(next.restore(0, file_of(5)));
  CHECK_FALSE(next.restore(OpenFiles::kMostHandles + 1, file_of(5)));
  std::set<uint64_t> fresh;
  for (size_t i = 0; i < handles.size(); ++i) fresh.insert(next.add(file_of(7)));
  CHECK(fresh.size() == handles.size());
  CHECK(fresh.contains(handles[0]));
  CHECK_FALSE(fresh.contains(handles[1]));
}

TEST_CASE("fusefs open files: one that is dormant is replaced once") {
  OpenFiles files;
  OpenFile dormant = file_of(10);
  dormant.is_dormant = true;
  REQUIRE(files.restore(3, dormant));
  const OpenFile& former = files.file(3);
  OpenFile awake = file_of(10);
  awake.is_written = true;
  files.replace(3, awake);
  CHECK(former.is_dormant);  // who has it still may look at it
  CHECK_FALSE(files.file(3).is_dormant);
  CHECK(files.find(10)->is_written);
  files.replace(3, file_of(10));
  CHECK(files.file(3).is_written);
  files.replace(9, file_of(11));  // it was closed meanwhile
  CHECK(files.size() == 1);
  files.remove(3);
  CHECK(files.find(10) == nullptr);
}

TEST_CASE("fusefs own changes: a marker is this thread's, and this mount's") {
  const OwnChanges mine;
  const OwnChanges others;
  CHECK_FALSE(mine.by_this_thread());
  {
    const OwnChanges::Marker marker(mine);
    CHECK(mine.by_this_thread());
    CHECK_FALSE(others.by_this_thread());
    {
      const OwnChanges::Marker inner(others);
      CHECK(others.by_this_thread());
      CHECK_FALSE(mine.by_this_thread());
    }
    CHECK(mine.by_this_thread());
    std::thread([&] { CHECK_FALSE(mine.by_this_thread()); }).join();
  }
  CHECK_FALSE(mine.by_this_thread());
}

TEST_CASE("fusefs own changes: bytes are known by their place, and once") {
  OwnChanges own;
  own.begin({3, 100, 10});
  own.begin({3, 100, 10});
  own.begin({4, 100, 10});
  CHECK_FALSE(own.take({3, 100, 11}));
  CHECK_FALSE(own.take({5, 100, 10}));
  CHECK(own.take({3, 100, 10}));
  CHECK(own.take({3, 100, 10}));
  CHECK_FALSE(own.take({3, 100, 10}));
  own.end({3, 100, 10});  // it was told of already
  own.end({4, 100, 10});
  CHECK_FALSE(own.take({4, 100, 10}));
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
