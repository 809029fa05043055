# The image of policyd. `make image` builds it; `make rootfs` lays out the same files without an engine.

FROM rust:1.95.0-slim-bookworm AS build
# libipset is linked, and its bindings are generated with libclang.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libclang-dev libipset-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The toolchain of this image, rather than one that rustup would fetch with components for linting.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY . .
# Downloaded crates and what was built of them outlive this build, for the next one.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    .ci/stage /stage

FROM debian:bookworm-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="policyd" \
      org.opencontainers.image.description="Kubernetes NetworkPolicy on a node, enforced with iptables and ipset" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="GPL-2.0-only AND (MIT OR Apache-2.0)" \
      org.opencontainers.image.base.name="debian:bookworm-slim"
# Debian's iptables has both backends; policyd chooses by what the node uses.
COPY .ci/runtime-packages /tmp/runtime-packages
RUN apt-get update \
 && xargs --arg-file=/tmp/runtime-packages apt-get install -y --no-install-recommends \
 && rm -rf /var/lib/apt/lists/* /tmp/runtime-packages
COPY --from=build /stage/ /
# Root, with all but two capabilities dropped by the DaemonSet. Another user would get none: capabilities
# of a file are void where privilege escalation is not allowed, and Kubernetes hands out no ambient
# ones. The lock that all writers of iptables-legacy share, /run/xtables.lock, is root's as well.
USER 0:0
ENTRYPOINT ["policyd"]
CMD ["run"]
