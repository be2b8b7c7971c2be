#include "server/impl/transfer_calls.h"

#include <fmt/format.h>

#include <cstring>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace blobcache::server {
namespace {

constexpr absl::Duration kTellInterval = absl::Milliseconds(200);

/// Passes on how far something is, a few times a second, until the caller has gone.
template <typename Response>
class Telling {
 public:
  Telling(grpc::ServerContext& context, grpc::ServerWriter<Response>& writer)
      : context_(context), writer_(writer) {}

  bool tell(uint64_t done, uint64_t total) {
    if (gone_ || context_.IsCancelled()) return false;
    const absl::Time now = absl::Now();
    if (now < next_) return true;
    next_ = now + kTellInterval;
    Response response;
    response.mutable_progress()->set_done(done);
    response.mutable_progress()->set_total(total);
    gone_ = !writer_.Write(response);
    return !gone_;
  }

 private:
  grpc::ServerContext& context_;
  grpc::ServerWriter<Response>& writer_;
  absl::Time next_ = absl::InfinitePast();
  bool gone_ = false;
};

}  // namespace

absl::Status serve_import(ImportRunner& imports, grpc::ServerContext& context,
                          const v1::ImportRequest& request,
                          grpc::ServerWriter<v1::ImportResponse>& writer) {
  ImportWish wish{request.path(), request.bind(), std::nullopt};
  if (!request.expected_digest().empty()) {
    page::ObjectKey& key = wish.expected.emplace();
    if (request.expected_digest().size() != key.bytes.size()) {
      return absl::InvalidArgumentError(fmt::format("the digest has {} bytes; a SHA-256 has {}",
                                                    request.expected_digest().size(),
                                                    key.bytes.size()));
    }
    std::memcpy(key.bytes.data(), request.expected_digest().data(), key.bytes.size());
  }
  Telling<v1::ImportResponse> telling(context, writer);
  const auto tell = [&](uint64_t done, uint64_t total) { return telling.tell(done, total); };
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::CommittedBlob blob, imports.run(wish, tell));
  v1::ImportResponse last;
  last.mutable_blob()->set_digest(blob.key.bytes.data(), blob.key.bytes.size());
  last.mutable_blob()->set_size(blob.size_bytes);
  last.mutable_blob()->set_existed(blob.existed);
  writer.Write(last);
  return absl::OkStatus();
}

absl::Status serve_warm(WarmRunner& warmer, grpc::ServerContext& context,
                        const v1::WarmRequest& request,
                        grpc::ServerWriter<v1::WarmResponse>& writer) {
  const WarmWish wish{request.path(), request.offset(), request.length()};
  if (!request.wait()) return warmer.begin(wish);
  Telling<v1::WarmResponse> telling(context, writer);
  const auto tell = [&](uint64_t done, uint64_t total) { return telling.tell(done, total); };
  BLOBCACHE_ASSIGN_OR_RETURN(const Warmed warmed, warmer.run(wish, tell));
  v1::WarmResponse last;
  last.mutable_warmed()->set_length(warmed.length);
  last.mutable_warmed()->set_fetched(warmed.fetched);
  writer.Write(last);
  return absl::OkStatus();
}

}  // namespace blobcache::server
