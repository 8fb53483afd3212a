#!/usr/bin/env bash
# Build the Horovod wheel that fits one Python environment, once per machine, and print the wheel's path.
#
#   setup/horovod_wheel.sh [PYTHON]        PYTHON: an interpreter that has torch; default .venv/bin/python
#   FARANDOLE_HOROVOD_GPU=1                all-reduce through NCCL; 0: not. Default: where torch has CUDA, and this
#                                          machine NVIDIA's driver. A CUDA compiler is fetched where there is none.
#
# Horovod publishes no wheels: it is compiled against the torch it will run with, which takes minutes. So the
# wheel is kept in a cache under everything it depends on, and built anew only when one of those things changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

horovod=0.28.1
recipe=3 # raise it when the way of building below changes: wheels of the old way are then left alone
python=${1:-.venv/bin/python}

say() { printf 'horovod: %s\n' "$*" >&2; }

# Where the wheel belongs ------------------------------------------------------------------------------------

# For example |2.13.0+cpu-cpython-311-linux-x86_64-glibc-2.36, and 13.0|2.13.0+cu130-... where torch has CUDA 13.0.
described=$("$python" - <<'PY'
import platform, sys, sysconfig, torch
print(torch.version.cuda or "", end="|")
print(torch.__version__, sys.implementation.cache_tag, sysconfig.get_platform(), *platform.libc_ver(), sep="-")
PY
)
torch_cuda=${described%%|*}
built_for=${described#*|}
gpu=${FARANDOLE_HOROVOD_GPU:-$([[ $torch_cuda && -e /proc/driver/nvidia/version ]] && echo 1 || echo 0)}
device=cpu
if [[ $gpu == 1 ]]; then device=gpu; fi
if [[ $device == gpu && -z $torch_cuda ]]; then
    say "FARANDOLE_HOROVOD_GPU=1, but this torch is one for processors only; install one with CUDA, or set it to 0"
    exit 3
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/farandole/wheels
key=horovod-$horovod-$device-torch-$built_for-r$recipe
mkdir -p "$cache"

found() { compgen -G "$cache/$key/horovod-*.whl"; }
reuse() { found && say "reusing the wheel built earlier for torch ${built_for%%-*} ($device)"; }
reuse && exit

# One build at a time: whoever waited here finds the other's wheel.
exec {lock}>"$cache/$key.lock"
flock --nonblock "$lock" || { say "another build of this wheel is running; waiting for it" && flock "$lock"; }
reuse && exit

# Build it ---------------------------------------------------------------------------------------------------

build=$cache/$key.build # a fixed name, so that what a killed build left behind is swept away by the next one
log=$cache/$key.log
trap 'rm -rf "$build"' EXIT
rm -rf "$build" && mkdir "$build"

# The place of the machine's CUDA toolkit, if it is of the version that torch was made with, but for its minor number.
cuda_toolkit() {
    local nvcc
    for nvcc in "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" nvcc; do
        if "$nvcc" --version 2>/dev/null | grep -q "release ${torch_cuda%%.*}\."; then
            "$nvcc" --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p' # it may be a script that calls the compiler
            return
        fi
    done
    return 1
}

# CUDA's compiler and headers: the machine's, or else those that pip has, in the very version that torch was made with.
# NCCL is always torch's own: a process cannot have two of them.
find_cuda() {
    local packages toolkit
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia
    if ! CUDA_HOME=$(cuda_toolkit); then
        toolkit=$("$python" -c 'from importlib.metadata import version; print(version("cuda-toolkit"))')
        "$python" -m pip install --target "$build/toolkit" "cuda-toolkit[nvcc,crt,nvvm,cccl,cudart]==$toolkit"
        CUDA_HOME=$(echo "$build"/toolkit/nvidia/cu*)
        ln -s lib "$CUDA_HOME/lib64" # where the compiler looks
        (cd "$CUDA_HOME/lib" && ln -s libcudart.so.* libcudart.so)
        # The headers of cuBLAS and the others came with torch.
        CPATH=$(printf '%s:' "$packages"/cu*/include)${CPATH:-}
        export CPATH
    fi
    export CUDA_HOME HOROVOD_CUDA_HOME=$CUDA_HOME PATH=$CUDA_HOME/bin:$PATH
    # Wheels have libraries under the names that programs load; the linker looks for another.
    mkdir "$build/links"
    ln -s "$packages"/nccl/lib/libnccl.so.2 "$build/links/libnccl.so"
    export HOROVOD_NCCL_INCLUDE=$packages/nccl/include HOROVOD_NCCL_LIB=$build/links HOROVOD_NCCL_LINK=SHARED
    export HOROVOD_GPU_OPERATIONS=NCCL
}

compile() {
    set -e
    # cmake 4 and setuptools 81 no longer accept what Horovod's build files say; the lock holds older ones.
    "$python" -m pip install --constraint requirements.lock \
        setuptools wheel cmake cloudpickle psutil pyyaml packaging cffi
    "$python" -m pip download --no-deps --no-binary horovod --no-build-isolation --dest "$build" "horovod==$horovod"
    tar -xzf "$build/horovod-$horovod.tar.gz" -C "$build"
    local source=$build/horovod-$horovod

    # torch's headers need C++17; Horovod asks for C++14.
    sed -i 's/CMAKE_CXX_STANDARD 14/CMAKE_CXX_STANDARD 17/' \
        "$source/CMakeLists.txt" "$source/horovod/torch/CMakeLists.txt"
    # And so do the headers of CUDA 13; Horovod asks for C++11.
    sed -i 's/CMAKE_CUDA_STANDARD 11/CMAKE_CUDA_STANDARD 17/' "$source/horovod/common/ops/cuda/CMakeLists.txt"
    # It takes its own path for a regular expression: with a + in it the library ends up outside the package.
    # shellcheck disable=SC2016 # what stands in quotes is for CMake
    sed -i 's|string(REGEX REPLACE "${PROJECT_SOURCE_DIR}(/)?"|string(REPLACE "${PROJECT_SOURCE_DIR}/"|' \
        "$source/cmake/Utilities.cmake"
    # The wheel serves every environment with this torch, so it must not look for torch where this one keeps it.
    # `import horovod.torch` has torch loaded first anyway.
    sed -i '/^set(CMAKE_CXX_STANDARD /a set(CMAKE_SKIP_RPATH ON)' "$source/CMakeLists.txt"
    # HOROVOD_GLOO_IFACE is forgotten where it counts: collectives then use the address of the machine's own name, which
    # Debian resolves to 127.0.1.1; where it does not resolve at all, the process crashes.
    sed -i '/::InitializeForProcessSet(/,/CreateDevice(/s/= gloo_iface_;/= global_context.gloo_iface_;/' \
        "$source/horovod/common/gloo/gloo_context.cc"
    grep -q 'global_context.gloo_iface_' "$source/horovod/common/gloo/gloo_context.cc"
    # HOROVOD_IDLE_CYCLE_TIME (ms): without it all ranks' threads meet in every cycle, a thousand times a second, also when
    # there is nothing to sum, and take up to a fifth of the time of those that compute. docs/decisions/0018-horovod-idle-threads.md has the figures.
    patch --directory "$source" --strip 1 <setup/horovod_idle.patch
    # A version of its own distinguishes it from other builds.
    sed -i "s/^__version__ = .*/__version__ = '$horovod+farandole.$recipe'/" "$source/horovod/__init__.py"
    # No debug symbols: a smaller library, sooner built.
    sed -i "s/'RelWithDebInfo'/'Release'/" "$source/setup.py"

    # Newer compilers no longer bring these in by way of other headers (seen missing: the first three): include them
    # everywhere.
    CXXFLAGS="$(printf -- '-include %s ' cstdint string stdexcept memory functional algorithm vector)${CXXFLAGS:-}"
    export CXXFLAGS
    MAKEFLAGS=-j$(nproc) # not those of a `make` that called us
    export MAKEFLAGS
    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_GLOO=1
    export HOROVOD_WITHOUT_MPI=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
    if [[ $device == gpu ]]; then find_cuda; fi
    # The build runs the `cmake` it finds on PATH, and must find the one just installed.
    PATH=$(dirname "$("$python" -c 'import sys; print(sys.executable)')"):$PATH \
        "$python" -m pip wheel --no-deps --no-cache-dir --no-build-isolation --wheel-dir "$build/wheel" "$source"
}

say "building $horovod for torch ${built_for%%-*} ($device); once per machine, 3 minutes on 2 cores"
SECONDS=0
# A subshell of its own: `set -e` has no force inside a function that `if` or `||` tests.
set +e
(compile) &>"$log" </dev/null
status=$?
set -e
if ((status != 0)); then
    tail -n 15 "$log" >&2
    say "the build failed; the whole log is $log"
    exit 1
fi
mv -T "$build/wheel" "$cache/$key" # a rename: the wheel is there whole or not at all
say "built in $SECONDS s"
found
