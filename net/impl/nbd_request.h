#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "net/impl/flush_ledger.h"
#include "net/impl/hole_list.h"

namespace blobcache::net {

class NbdConnection;

/// One request as it goes over the wire: aligned, and no longer than the server takes. It is the
/// loop's thread's alone once it is submitted; `done` is called there, exactly once, and when it
/// is, neither libnbd nor the session touches the buffers any more.
struct NbdRequest {
  enum class Kind : uint8_t { kRead, kWrite, kZero, kTrim, kFlush, kStatus };
  enum class State : uint8_t { kNew, kQueued, kSent, kDone };

  Kind kind = Kind::kRead;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::byte* into = nullptr;        ///< kRead
  const std::byte* from = nullptr;  ///< kWrite
  bool fua = false;                 ///< of a flush: it is a change's own, in place of FUA
  bool rewrites = false;            ///< kRead: what it brings is written again, as it was
  bool no_hole = false;             ///< kZero
  std::vector<HoleList::Run> runs;  ///< what kStatus brings
  absl::AnyInvocable<void(absl::Status)> done;

  // What follows is the session's.
  State state = State::kNew;
  uint32_t answers = 0;    ///< errors that the server sent
  bool cancelled = false;  ///< it ends with CANCELLED as soon as its buffers are free
  bool expired = false;
  FlushLedger::Flush flush;  ///< kFlush
  uint64_t number = 0;       ///< in the order in which they came
  absl::Time deadline;
  NbdConnection* connection = nullptr;  ///< kSent
  std::list<std::shared_ptr<NbdRequest>>::iterator live;

  // What follows is the connection's.
  int error = 0;
};

/// Whether the bytes at the server may be others when it is through.
[[nodiscard]] inline bool changes_bytes(const NbdRequest& request) {
  return request.kind == NbdRequest::Kind::kWrite || request.kind == NbdRequest::Kind::kZero ||
         request.kind == NbdRequest::Kind::kTrim;
}

using NbdRequestRef = std::shared_ptr<NbdRequest>;

}  // namespace blobcache::net
