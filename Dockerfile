# The one executable with the C library it needs and nothing else: no shell, no package manager, a user without rights.

FROM node:20-bookworm-slim AS build
WORKDIR /src
COPY . .
RUN npx -y "bun@$(node -p "require('./package.json').packageManager.split('@')[1]")" run build
# What the image holds: the libraries that the executable links, a user, a writable place.
RUN mkdir -p /image/etc /image/data /image/tmp /image/usr/local/bin \
 && cp dist/varia /image/usr/local/bin/ \
 && ldd dist/varia | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} /image \
 && echo 'varia:x:65532:65532::/data:/usr/sbin/nologin' > /image/etc/passwd \
 && echo 'varia:x:65532:' > /image/etc/group \
 && chown 65532:65532 /image/data && chmod 1777 /image/tmp

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Varia" \
      org.opencontainers.image.description="Sharded, replicated metadata store and coordination service that speaks Oxia's protocol" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /
COPY --from=build --chown=65532:65532 /image/data /data
USER 65532:65532
WORKDIR /data
# Set, it would turn the executable into a plain Bun.
ENV BUN_BE_BUN=""
VOLUME /data
EXPOSE 6648 6649 6651 8080
HEALTHCHECK --interval=10s --timeout=5s CMD ["/usr/local/bin/varia", "health", "--port", "6648"]
ENTRYPOINT ["/usr/local/bin/varia"]
CMD ["standalone", "--data-dir", "/data/db", "--wal-dir", "/data/wal"]
