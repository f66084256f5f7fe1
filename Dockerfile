# syntax=docker/dockerfile:1
# The server, as a user without rights, on a base that has a C library, certificates, and
# nothing to log in to. The C library is glibc: musl's allocator makes the server slower,
# and its look-up of names asks no module that an operator may have set up.
FROM rust:1.89-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked && mkdir -p /state

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/tallyhook /usr/bin/tallyhook
COPY --from=build --chown=nonroot:nonroot /state /var/lib/tallyhook
ENV TALLYHOOK_LISTEN=0.0.0.0:8080 \
    TALLYHOOK_STORE=sqlite:/var/lib/tallyhook/tallyhook.db
VOLUME /var/lib/tallyhook
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/usr/bin/tallyhook", "health"]
ENTRYPOINT ["/usr/bin/tallyhook"]
CMD ["serve"]
