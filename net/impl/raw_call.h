#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace blobcache::net {

/// One call of a client, blocking and in bytes: messages are neither parsed nor copied. It polls on
/// the caller's thread, so that nothing hops.
///
/// One thread at a time. A call that is destroyed before finish() is cancelled.
class RawCall {
 public:
  /// `token`, when not empty, is sent as the bearer token; `address` is for the message of a lost
  /// connection.
  RawCall(const std::shared_ptr<grpc::ChannelInterface>& channel, const std::string& method,
          const std::string& token, const std::string& address);
  ~RawCall();
  RawCall(const RawCall&) = delete;
  RawCall& operator=(const RawCall&) = delete;

  /// False when the call has ended; finish() says why.
  [[nodiscard]] bool write(const grpc::ByteBuffer& message);
  /// As write(), and no more follows.
  [[nodiscard]] bool write_last(const grpc::ByteBuffer& message);
  /// False when no message follows; finish() says whether that was all.
  [[nodiscard]] bool read(grpc::ByteBuffer& message);
  /// Waits for the call's end. To be called when read() or a write has returned false, or after
  /// cancel(). Errors are as explain_end() has them.
  [[nodiscard]] absl::Status finish();

  void cancel() { context_.TryCancel(); }

 private:
  /// Waits for the one operation that is under way.
  [[nodiscard]] bool wait();

  const std::shared_ptr<grpc::ChannelInterface> channel_;
  const std::string address_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  bool finished_ = false;
};

}  // namespace blobcache::net
