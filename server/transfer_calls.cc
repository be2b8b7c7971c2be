#include "server/impl/transfer_calls.h"

#include <fmt/format.h>

#include <cstring>

#include "base/status.h"
#include "server/impl/progress_stream.h"

namespace blobcache::server {

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
  ProgressStream<v1::ImportResponse> stream(context, writer);
  const auto tell = [&](uint64_t done, uint64_t total) { return stream.tell(done, total); };
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
  ProgressStream<v1::WarmResponse> stream(context, writer);
  const auto tell = [&](uint64_t done, uint64_t total) { return stream.tell(done, total); };
  BLOBCACHE_ASSIGN_OR_RETURN(const Warmed warmed, warmer.run(wish, tell));
  v1::WarmResponse last;
  last.mutable_warmed()->set_length(warmed.length);
  last.mutable_warmed()->set_fetched(warmed.fetched);
  writer.Write(last);
  return absl::OkStatus();
}

}  // namespace blobcache::server
