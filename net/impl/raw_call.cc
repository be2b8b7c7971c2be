#include "net/impl/raw_call.h"

#include "net/impl/connection.h"
#include "net/impl/grpc_status.h"

namespace blobcache::net {

RawCall::RawCall(const std::shared_ptr<grpc::ChannelInterface>& channel, const std::string& method,
                 const std::string& token, const std::string& address)
    : channel_(channel), address_(address) {
  if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
  grpc::GenericStub stub(channel);
  stream_ = stub.PrepareCall(&context_, method, &queue_);
  stream_->StartCall(this);
  static_cast<void>(wait());  // a call that could not start fails at the next step
}

RawCall::~RawCall() {
  if (!finished_) {
    cancel();
    static_cast<void>(finish());
  }
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

bool RawCall::write(const grpc::ByteBuffer& message) {
  stream_->Write(message, this);
  return wait();
}

bool RawCall::write_last(const grpc::ByteBuffer& message) {
  stream_->WriteLast(message, grpc::WriteOptions(), this);
  return wait();
}

bool RawCall::read(grpc::ByteBuffer& message) {
  message.Clear();
  stream_->Read(&message, this);
  return wait();
}

absl::Status RawCall::finish() {
  finished_ = true;
  grpc::Status status;
  stream_->Finish(&status, this);
  static_cast<void>(wait());
  return explain_end(from_grpc(status), *channel_, address_);
}

bool RawCall::wait() {
  void* tag = nullptr;
  bool ok = false;
  return queue_.Next(&tag, &ok) && ok;
}

}  // namespace blobcache::net
