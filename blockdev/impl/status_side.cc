#include "blockdev/impl/status_side.h"

#include <utility>

#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {

void StatusSide::query(const nbd::Request& request) {
  const uint32_t slot = under_way_.add({request, {}});
  page::PendingRead map = device_.map(request.offset, request.length, kMaxRuns,
                                      completions_.expect_map(first_id_ + slot));
  under_way_.at(slot).map = std::move(map);
}

void StatusSide::completed(uint32_t slot, Completion completion) {
  const nbd::Request request = under_way_.remove(slot).request;
  if (!completion.status.ok()) {
    replies_.failed(request, request.offset, std::move(completion.status));
    return;
  }
  const bool one = (request.flags & nbd::kCmdFlagReqOne) != 0;
  replies_.status({request.cookie, request.offset}, contexts_, completion.runs, one);
}

void StatusSide::cancel() {
  under_way_.for_each([](UnderWay& what) { what.map.cancel(); });
}

}  // namespace blobcache::blockdev
