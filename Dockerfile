# The one executable on a distroless base: no shell, no package manager, a user without rights.

FROM node:20-bookworm-slim AS build
WORKDIR /src
COPY package.json bun.lock bunfig.toml ./
RUN npx -y "bun@$(node -p "require('./package.json').packageManager.split('@')[1]")" install --frozen-lockfile
COPY . .
RUN npx -y "bun@$(node -p "require('./package.json').packageManager.split('@')[1]")" run build && mkdir -p /data

FROM gcr.io/distroless/base-debian12:nonroot
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="Varia" \
      org.opencontainers.image.description="Sharded, replicated metadata store and coordination service that speaks Oxia's protocol" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=nonroot:nonroot /data /data
COPY --from=build /src/dist/varia /usr/local/bin/varia
USER nonroot
WORKDIR /data
# Set, it would turn the executable into a plain Bun.
ENV BUN_BE_BUN=""
VOLUME /data
EXPOSE 6648 8080
ENTRYPOINT ["/usr/local/bin/varia"]
CMD ["standalone", "--data-dir", "/data/db", "--wal-dir", "/data/wal"]
