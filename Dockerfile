# The same image as `make image`, for those who have a container engine:
#   docker build -t localhost/component-lease:0.1.0 .
# A release names it by digest: --build-arg RUST_IMAGE=rust:1.95.0-bookworm@sha256:...
ARG RUST_IMAGE=rust:1.95.0-bookworm
FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# A static program that resolves names without any file of the C library; see xtask/src/main.rs.
RUN target="$(uname -m)-unknown-linux-gnu" \
 && RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=/target \
    cargo build --locked --release --features cli --target "$target" --bin component-lease \
 && cp "/target/$target/release/component-lease" /component-lease

FROM scratch
LABEL org.opencontainers.image.title="component-lease" \
      org.opencontainers.image.description="Database leader election made a Kubernetes citizen: one row decides who leads, a controller routes a Service to it" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The ComponentLease authors" \
      org.opencontainers.image.url="https://componentlease.io" \
      org.opencontainers.image.source="https://github.com/componentlease/component-lease" \
      org.opencontainers.image.documentation="https://componentlease.io/docs"
COPY --from=build /component-lease /component-lease
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/component-lease"]
