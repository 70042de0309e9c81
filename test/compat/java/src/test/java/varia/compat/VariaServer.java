package varia.compat;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** One `varia standalone` process in its own temporary directory. */
final class VariaServer implements AutoCloseable {
    private static final long START_SECONDS = 30;

    private final int shards;
    private final Path dir;
    private String address;
    private Process process;

    private VariaServer(int shards, Path dir) {
        this.shards = shards;
        this.dir = dir;
    }

    static VariaServer start(int shards) throws Exception {
        VariaServer server = new VariaServer(shards, Files.createTempDirectory("varia-java-"));
        try {
            server.address = server.launch("127.0.0.1:0");
        } catch (Exception e) {
            server.close();
            throw e;
        }
        return server;
    }

    /** host:port for clients; the same after a restart. */
    String address() {
        return address;
    }

    /** Ends the process with SIGKILL and waits until it is gone. */
    void kill() throws InterruptedException {
        process.destroyForcibly();
        if (!process.waitFor(START_SECONDS, TimeUnit.SECONDS)) {
            throw new IllegalStateException("the server outlived SIGKILL");
        }
    }

    /** Starts the process again on the same port and directories. */
    void restart() throws Exception {
        launch(address);
    }

    private String launch(String listen) throws Exception {
        String executable = System.getenv("VARIA_EXECUTABLE");
        if (executable == null || executable.isEmpty()) {
            throw new IllegalStateException("set VARIA_EXECUTABLE to the path of the server executable");
        }
        process = new ProcessBuilder(
                        executable, "standalone",
                        "-s", Integer.toString(shards),
                        "-p", listen,
                        "-m", "127.0.0.1:0",
                        "--data-dir", dir.resolve("db").toString(),
                        "--wal-dir", dir.resolve("wal").toString())
                .redirectError(ProcessBuilder.Redirect.appendTo(dir.resolve("stderr.txt").toFile()))
                .start();
        CompletableFuture<String> found = new CompletableFuture<>();
        Process started = process;
        Thread reader = new Thread(() -> readAddress(started, found), "varia-stdout");
        reader.setDaemon(true);
        reader.start();
        try {
            return found.get(START_SECONDS, TimeUnit.SECONDS);
        } catch (Exception e) {
            started.destroyForcibly();
            throw new IllegalStateException(
                    "the server did not start: " + Files.readString(dir.resolve("stderr.txt")), e);
        }
    }

    private static void readAddress(Process started, CompletableFuture<String> found) {
        // Reads to the end, so that the process never blocks on a full pipe.
        try (BufferedReader out = new BufferedReader(
                new InputStreamReader(started.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line = out.readLine(); line != null; line = out.readLine()) {
                if (line.startsWith("public ")) {
                    found.complete(line.substring("public ".length()).trim());
                }
            }
        } catch (IOException e) {
            found.completeExceptionally(e);
        }
        found.completeExceptionally(new IOException("stdout ended without a `public` line"));
    }

    @Override
    public void close() throws Exception {
        if (process != null) {
            kill();
        }
        try (var paths = Files.walk(dir)) {
            for (Path path : paths.sorted(Comparator.reverseOrder()).toList()) {
                Files.deleteIfExists(path);
            }
        }
    }
}
