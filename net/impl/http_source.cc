#include "net/impl/http_source.h"

#include <utility>

namespace blobcache::net {

namespace {

class HttpFetch final : public page::Source::Fetch {
 public:
  HttpFetch(std::shared_ptr<HttpClient> client, std::shared_ptr<HttpPiece> piece)
      : client_(std::move(client)), piece_(std::move(piece)) {}
  void cancel() override { client_->cancel(piece_); }
  void hasten() override { client_->hasten(piece_); }

 private:
  const std::shared_ptr<HttpClient> client_;
  const std::shared_ptr<HttpPiece> piece_;
};

}  // namespace

HttpSource::HttpSource(std::shared_ptr<HttpClient> client, std::shared_ptr<HttpTarget> target,
                       const page::ObjectKey& key)
    : client_(std::move(client)), target_(std::move(target)), key_(key) {}

std::unique_ptr<page::Source::Fetch> HttpSource::fetch(uint64_t offset, absl::Span<std::byte> into,
                                                       FetchDone done) {
  return begin(offset, into, std::move(done), /*is_ahead=*/false);
}

std::unique_ptr<page::Source::Fetch> HttpSource::fetch_ahead(uint64_t offset,
                                                             absl::Span<std::byte> into,
                                                             FetchDone done) {
  return begin(offset, into, std::move(done), /*is_ahead=*/true);
}

std::unique_ptr<page::Source::Fetch> HttpSource::begin(uint64_t offset, absl::Span<std::byte> into,
                                                       FetchDone done, bool is_ahead) {
  auto piece = std::make_shared<HttpPiece>();
  piece->target = target_;
  piece->offset = offset;
  piece->into = into;
  piece->done = std::move(done);
  piece->is_ahead = is_ahead;
  client_->fetch(piece);
  return std::make_unique<HttpFetch>(client_, std::move(piece));
}

}  // namespace blobcache::net
