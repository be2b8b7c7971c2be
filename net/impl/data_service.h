#pragma once

#include <grpcpp/grpcpp.h>

#include "blobcache.grpc.pb.h"
#include "net/impl/data_door.h"
#include "store/tree/namespace.h"

namespace blobcache::net {

/// The Data service for one kind of caller: everything put through it is created in that caller's
/// name. It only begins streams; they work by themselves.
///
/// Thread-safe. `door` must outlive it.
class DataService final
    : public v1::Data::WithRawCallbackMethod_Read<v1::Data::WithRawCallbackMethod_Put<
          v1::Data::WithCallbackMethod_Stat<v1::Data::Service>>> {
 public:
  DataService(DataDoor& door, const tree::Creator& creator) : door_(door), creator_(creator) {}

  grpc::ServerUnaryReactor* Stat(grpc::CallbackServerContext* context,
                                 const v1::StatRequest* request,
                                 v1::StatResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Read(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request) override;
  grpc::ServerReadReactor<grpc::ByteBuffer>* Put(grpc::CallbackServerContext* context,
                                                 grpc::ByteBuffer* response) override;

 private:
  DataDoor& door_;
  const tree::Creator creator_;
};

}  // namespace blobcache::net
