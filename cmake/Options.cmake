# Build type, language, warnings, sanitizers, ccache or precompiled headers.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(BLOBCACHE_UNITY "Compile the files of a room by the dozen (cmake/Rooms.cmake)" ON)
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
# A dozen files have little to gain from it, and ccache does not see through a precompiled header.
if(BLOBCACHE_UNITY OR CCACHE_PROGRAM)
  set(precompile OFF)
else()
  set(precompile ON)
endif()
option(BLOBCACHE_PRECOMPILE "Parse the headers that most files include once (cmake/Precompiled.cmake)" ${precompile})

# What our own code is compiled with; generated code is not.
add_library(blobcache_warnings INTERFACE)
target_compile_options(blobcache_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
  -Woverloaded-virtual -Wnull-dereference -Wimplicit-fallthrough -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(blobcache_warnings INTERFACE -Wthread-safety -Wthread-safety-beta
    -Wzero-as-null-pointer-constant -Wsuggest-override)
else()
  # g++ 12 sees null dereferences that are not there once it inlines the standard library; and it does not know a
  # precompiled header for the system's, whose strings seem too short to it.
  target_compile_options(blobcache_warnings INTERFACE -Wno-null-dereference
    $<$<BOOL:${BLOBCACHE_PRECOMPILE}>:-Wno-array-bounds;-Wno-stringop-overflow>)
endif()

set(BLOBCACHE_SANITIZE "" CACHE STRING "Sanitizers: address,undefined or thread; empty for none")
if(BLOBCACHE_SANITIZE)
  # All unit tests are built with it for each change: most of what that takes is the optimizer's.
  if(BLOBCACHE_SANITIZE MATCHES address)
    string(REPLACE "-O2" "-O1" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
  endif()
  add_compile_options(-fsanitize=${BLOBCACHE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${BLOBCACHE_SANITIZE})
  # Names the lines of what is found; gcc's libraries do so by themselves.
  find_program(LLVM_SYMBOLIZER NAMES llvm-symbolizer-19 llvm-symbolizer)
  if(LLVM_SYMBOLIZER AND CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    set(SYMBOLIZER ASAN_OPTIONS=external_symbolizer_path=${LLVM_SYMBOLIZER}
      UBSAN_OPTIONS=print_stacktrace=1:external_symbolizer_path=${LLVM_SYMBOLIZER})
  endif()
endif()

option(BLOBCACHE_FUZZ "Build the fuzz targets, and all libraries for them (clang, libFuzzer)" OFF)
if(BLOBCACHE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "BLOBCACHE_FUZZ needs clang: -DCMAKE_CXX_COMPILER=clang++-19")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
