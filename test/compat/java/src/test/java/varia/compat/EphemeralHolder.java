package varia.compat;

import io.oxia.client.api.OxiaClientBuilder;
import io.oxia.client.api.SyncOxiaClient;
import io.oxia.client.api.options.PutOption;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;

/**
 * The official client in a process of its own, so that it can be killed as a whole. It puts the ephemeral records that
 * it is told to, one key a line, and never closes its client.
 */
final class EphemeralHolder implements AutoCloseable {
    private final Process process;
    private final PrintWriter orders;
    private final BufferedReader answers;

    EphemeralHolder(String address, Duration sessionTimeout) throws IOException {
        // Surefire starts its own process with a class path of one jar, and keeps the true one here.
        String classPath = System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
        process = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                        "-Xmx128m", "-cp", classPath, EphemeralHolder.class.getName(),
                        address, Long.toString(sessionTimeout.toMillis()))
                .redirectError(ProcessBuilder.Redirect.DISCARD)
                .start();
        orders = new PrintWriter(process.getOutputStream(), true, StandardCharsets.UTF_8);
        answers = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
        expect("connected");
    }

    void hold(List<String> keys) throws IOException {
        for (String key : keys) {
            orders.println(key);
            expect("held " + key);
        }
    }

    private void expect(String wanted) throws IOException {
        String answer = answers.readLine();
        if (!wanted.equals(answer)) {
            throw new IllegalStateException("the holder answers `" + answer + "`, not `" + wanted + "`");
        }
    }

    /** Ends the process with SIGKILL and waits until it is gone; a second call does nothing. */
    @Override
    public void close() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    public static void main(String[] arguments) throws Exception {
        SyncOxiaClient client = OxiaClientBuilder.create(arguments[0])
                .sessionTimeout(Duration.ofMillis(Long.parseLong(arguments[1])))
                .syncClient();
        System.out.println("connected");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String key = lines.readLine(); key != null; key = lines.readLine()) {
            client.put(key, key.getBytes(StandardCharsets.UTF_8), Set.of(PutOption.AsEphemeralRecord));
            System.out.println("held " + key);
        }
        System.exit(0);
    }
}
