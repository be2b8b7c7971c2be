#include "blockdev/impl/meta_contexts.h"

#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {
namespace {

constexpr std::string_view kAllocationName = "base:allocation";
constexpr std::string_view kTierName = "blobcache:tier";

bool finds(std::string_view query, std::string_view name, bool listing) {
  if (query == name) return true;
  return listing && query == name.substr(0, name.find(':') + 1);
}

/// A query that no namespace can understand.
bool is_malformed(std::string_view query) {
  const size_t colon = query.find(':');
  return query.size() > nbd::kMaxString || colon == 0 || colon == std::string_view::npos;
}

}  // namespace

void MetaContexts::answer(uint32_t option, nbd::Bytes data, bool chunks, std::string& out) {
  const bool listing = option == nbd::kOptListMetaContext;
  // A choice that fails takes the one before it with it.
  if (!listing) forget();
  const auto refuse = [&](uint32_t type, std::string_view why) {
    nbd::append_option_reply(out, option, type, why);
  };
  if (!chunks) {
    refuse(nbd::kRepErrInvalid, "structured replies or extended headers have to come first");
    return;
  }
  const std::optional<nbd::MetaRequest> request = nbd::decode_meta_request(data);
  if (!request) {
    refuse(nbd::kRepErrInvalid, "the lengths in the option do not add up");
    return;
  }
  if (request->name.size() > nbd::kMaxString) {
    refuse(nbd::kRepErrInvalid, "the export name is over 4096 bytes");
    return;
  }
  absl::StatusOr<OpenExport> opened = exports_.open(request->name);
  if (!opened.ok()) {
    refuse(nbd::kRepErrUnknown, "no such export");
    return;
  }
  MetaContextSet found;
  if (listing && request->queries.empty()) found = {.allocation = true, .tier = true};
  for (const std::string_view query : request->queries) {
    if (is_malformed(query)) {
      refuse(nbd::kRepErrInvalid, "a query is not NAMESPACE:NAME, or over 4096 bytes");
      return;
    }
    found.allocation |= finds(query, kAllocationName, listing);
    found.tier |= finds(query, kTierName, listing);
  }
  const auto tell = [&](MetaContext context, std::string_view name) {
    // The number is reserved in a list.
    nbd::append_meta_context(out, option, listing ? 0 : static_cast<uint32_t>(context), name);
  };
  if (found.allocation) tell(MetaContext::kAllocation, kAllocationName);
  if (found.tier) tell(MetaContext::kTier, kTierName);
  nbd::append_option_reply(out, option, nbd::kRepAck, {});
  if (listing) return;
  chosen_ = found;
  chosen_name_ = std::move(opened->name);
}

}  // namespace blobcache::blockdev
